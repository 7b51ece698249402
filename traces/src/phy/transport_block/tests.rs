use sha2::{Digest, Sha256};

use super::super::mcs::McsTable;
use super::*;

fn bits(table: McsTable, index: u64, allocation: &Allocation) -> u32 {
    transport_block_bits(table.scheme(index).unwrap(), allocation).unwrap()
}

#[test]
fn sizes_equal_those_computed_with_exact_fractions() {
    let text = include_str!("../../../data/phy/transport_block_cases.csv");
    let mut cases = 0;
    for line in text
        .lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_digit()))
    {
        let fields: Vec<u32> = line
            .split(',')
            .map(|field| field.parse().unwrap())
            .collect();
        let [
            table,
            index,
            layers,
            resource_blocks,
            symbols,
            dmrs,
            overhead,
            expected,
        ] = fields[..]
        else {
            panic!("{line}");
        };
        let allocation = Allocation {
            layers,
            resource_blocks,
            symbols,
            dmrs_elements: dmrs,
            overhead_elements: overhead,
        };
        let table = McsTable::of_number(table.into()).unwrap();
        assert_eq!(bits(table, index.into(), &allocation), expected, "{line}");
        cases += 1;
    }
    assert_eq!(cases, 195);
}

#[test]
fn all_sizes_of_a_grid_have_the_hash_of_the_independent_computation() {
    const BLOCKS: [u32; 19] = [
        1, 2, 3, 5, 7, 11, 16, 24, 31, 52, 66, 79, 106, 133, 162, 217, 264, 273, 275,
    ];
    const SYMBOLS: [(u32, u32, u32); 9] = [
        (2, 0, 0),
        (4, 6, 0),
        (7, 12, 0),
        (10, 12, 6),
        (12, 12, 12),
        (13, 18, 0),
        (14, 12, 0),
        (14, 24, 18),
        (14, 0, 0),
    ];
    let (mut hasher, mut count) = (Sha256::new(), 0);
    for table in McsTable::ALL {
        for (index, _) in table.schemes().enumerate() {
            for layers in 1..=4 {
                for resource_blocks in BLOCKS {
                    for (symbols, dmrs_elements, overhead_elements) in SYMBOLS {
                        let allocation = Allocation {
                            layers,
                            resource_blocks,
                            symbols,
                            dmrs_elements,
                            overhead_elements,
                        };
                        let size = bits(table, index as u64, &allocation);
                        let number = table.number();
                        hasher.update(format!(
                            "{number},{index},{layers},{resource_blocks},{symbols},{dmrs_elements},\
                             {overhead_elements},{size}\n"
                        ));
                        count += 1;
                    }
                }
            }
        }
    }
    assert_eq!(count, 77_292);
    let hash: String = hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        hash,
        "a0cc780afdf48f22dec3f72b5df55a8fac6298fc0f9711c4c8f2d9b81475e0fc"
    );
}

#[test]
fn impossible_allocations_are_refused_by_the_name_of_the_column() {
    let allocation = Allocation {
        layers: 1,
        resource_blocks: 10,
        symbols: 14,
        dmrs_elements: 12,
        overhead_elements: 0,
    };
    let scheme = McsTable::Qam64.scheme(5).unwrap();
    let refused = |allocation| transport_block_bits(scheme, &allocation).unwrap_err().what;
    assert_eq!(
        refused(Allocation {
            layers: 5,
            ..allocation
        }),
        "layers"
    );
    assert_eq!(
        refused(Allocation {
            resource_blocks: 276,
            ..allocation
        }),
        "n_prb"
    );
    assert_eq!(
        refused(Allocation {
            symbols: 15,
            ..allocation
        }),
        "n_symbols"
    );
    assert_eq!(
        refused(Allocation {
            symbols: 1,
            ..allocation
        }),
        "n_dmrs_re_per_prb"
    );
    assert_eq!(
        refused(Allocation {
            overhead_elements: 156,
            ..allocation
        }),
        "n_oh_re_per_prb"
    );
}
