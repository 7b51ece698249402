//! Which CPUs each node gets.
//!
//! Nodes get CPUs of their own; the lowest are left to everything else (interrupts, the relay) where
//! there are some over, and where there are not enough, CPUs are shared in turn. On a machine of
//! several NUMA nodes a node's CPUs lie on one of them wherever that is possible, and beside the GPU
//! that it was given.

use std::collections::BTreeMap;

use super::Machine;

/// What a node asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wish {
    /// CPUs.
    pub(super) count: usize,
    /// The NUMA node of its GPU, if it has one and that is known.
    pub(super) near: Option<u32>,
}

/// The CPUs of each wish, in ascending order. No wish is for more CPUs than the machine has.
pub(super) fn choose(machine: &Machine, wishes: &[Wish]) -> Vec<Vec<u32>> {
    let wanted: usize = wishes.iter().map(|wish| wish.count).sum();
    let mut free = free_cpus(machine);
    if free.len() > 1 && wanted <= machine.cpus.len() {
        apart(&mut free, wishes)
    } else {
        in_turn(&machine.cpus, wishes, wanted)
    }
}

/// One after the other, from the end, and again from the beginning.
fn in_turn(cpus: &[u32], wishes: &[Wish], wanted: usize) -> Vec<Vec<u32>> {
    let mut next = cpus.len().saturating_sub(wanted);
    let mut chosen = Vec::new();
    for wish in wishes {
        let slots = next..next + wish.count;
        let own = slots.filter_map(|slot| cpus.get(slot % cpus.len().max(1)));
        let mut own: Vec<u32> = own.copied().collect();
        own.sort_unstable();
        chosen.push(own);
        next += wish.count;
    }
    chosen
}

/// CPUs that may be used, in ascending order, by the NUMA node that they are on.
fn free_cpus(machine: &Machine) -> BTreeMap<u32, Vec<u32>> {
    let mut free: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (number, cpus) in &machine.numa_nodes {
        let usable = cpus.iter().filter(|cpu| machine.cpus.contains(cpu));
        let mut usable: Vec<u32> = usable.copied().collect();
        usable.sort_unstable();
        if !usable.is_empty() {
            free.insert(*number, usable);
        }
    }
    // A CPU that no node claims must not be lost.
    let claimed = free.values().map(Vec::len).sum::<usize>();
    if claimed == machine.cpus.len() {
        free
    } else {
        BTreeMap::new()
    }
}

/// Each on one NUMA node: beside its GPU, else where the fewest CPUs are left over. Those that want
/// most choose first, for they find room hardest; one that fits nowhere takes what is left, from the
/// emptiest nodes on.
fn apart(free: &mut BTreeMap<u32, Vec<u32>>, wishes: &[Wish]) -> Vec<Vec<u32>> {
    let mut order: Vec<usize> = (0..wishes.len()).collect();
    order.sort_by_key(|place| {
        let wish = wishes[*place];
        (
            std::cmp::Reverse(wish.near.is_some()),
            std::cmp::Reverse(wish.count),
        )
    });
    let mut chosen = vec![Vec::new(); wishes.len()];
    for place in order {
        let wish = wishes[place];
        let room = |number: &u32| free.get(number).map_or(0, Vec::len);
        let has_room = |number: &u32| room(number) >= wish.count;
        let fitting = free.keys().rev().copied().filter(has_room);
        let best = wish
            .near
            .filter(has_room)
            .or_else(|| fitting.min_by_key(room));
        let mut emptiest: Vec<u32> = free.keys().rev().copied().collect();
        emptiest.sort_by_key(|number| std::cmp::Reverse(room(number)));
        let mut own = Vec::new();
        for number in best.into_iter().chain(emptiest) {
            let left = free.entry(number).or_default();
            let taken = left.len().min(wish.count - own.len());
            own.extend(left.split_off(left.len() - taken));
        }
        own.sort_unstable();
        chosen[place] = own;
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two nodes of four CPUs, numbered in turn as firmware often does.
    fn two_sockets() -> Machine {
        Machine {
            cpus: (0..8).collect(),
            numa_nodes: vec![(0, vec![0, 2, 4, 6]), (1, vec![1, 3, 5, 7])],
            ..Machine::default()
        }
    }

    fn wishes(counts: &[usize]) -> Vec<Wish> {
        let wish = |count: &usize| Wish {
            count: *count,
            near: None,
        };
        counts.iter().map(wish).collect()
    }

    #[test]
    fn on_one_numa_node_the_lowest_cpus_are_left_over() {
        let machine = Machine {
            cpus: (0..8).collect(),
            numa_nodes: vec![(0, (0..8).collect())],
            ..Machine::default()
        };
        assert_eq!(choose(&machine, &wishes(&[2, 1])), [vec![5, 6], vec![7]]);
        let small = Machine {
            cpus: vec![0, 1],
            ..Machine::default()
        };
        assert_eq!(choose(&small, &wishes(&[2, 1])), [vec![0, 1], vec![0]]);
    }

    #[test]
    fn a_node_s_cpus_lie_on_one_numa_node() {
        let chosen = choose(&two_sockets(), &wishes(&[2, 3, 1]));
        // Three fit one socket and leave one CPU there, which the third node takes.
        assert_eq!(chosen, [vec![4, 6], vec![3, 5, 7], vec![1]]);
    }

    #[test]
    fn a_node_with_a_gpu_lies_beside_it_though_another_node_wants_more() {
        let mut wishes = wishes(&[4, 2]);
        wishes[1].near = Some(1);
        let chosen = choose(&two_sockets(), &wishes);
        assert_eq!(chosen, [vec![0, 2, 4, 6], vec![5, 7]]);
    }

    #[test]
    fn a_node_that_fits_nowhere_takes_cpus_of_several() {
        let chosen = choose(&two_sockets(), &wishes(&[5, 1]));
        assert_eq!(chosen, [vec![1, 3, 5, 6, 7], vec![4]]);
        let mut all: Vec<u32> = choose(&two_sockets(), &wishes(&[3, 3, 2])).concat();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3, 4, 5, 6, 7], "nobody shares");
    }

    #[test]
    fn cpus_that_may_not_be_used_are_left_alone() {
        let machine = Machine {
            cpus: vec![0, 1, 2, 3, 5],
            ..two_sockets()
        };
        assert_eq!(choose(&machine, &wishes(&[2, 2])), [vec![0, 2], vec![3, 5]]);
    }
}
