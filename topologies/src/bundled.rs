//! The experiment files that come with the program.

/// Name and text of every bundled experiment file.
#[must_use]
pub fn bundled() -> &'static [(&'static str, &'static str)] {
    &[
        ("quickstart", include_str!("../quickstart.toml")),
        ("e00-calibration", include_str!("../e00-calibration.toml")),
        ("e01-placement", include_str!("../e01-placement.toml")),
        ("e02-split", include_str!("../e02-split.toml")),
        ("e02-controls", include_str!("../e02-controls.toml")),
        ("e03-multihop", include_str!("../e03-multihop.toml")),
        (
            "e03-tensor-parallel",
            include_str!("../e03-tensor-parallel.toml"),
        ),
        ("e04-speculative", include_str!("../e04-speculative.toml")),
        (
            "e05-cascade-early-exit",
            include_str!("../e05-cascade-early-exit.toml"),
        ),
        ("e10-kv-rag", include_str!("../e10-kv-rag.toml")),
        (
            "e13-multiuser-energy",
            include_str!("../e13-multiuser-energy.toml"),
        ),
        ("e13-adapters", include_str!("../e13-adapters.toml")),
        ("e14-kpi", include_str!("../e14-kpi.toml")),
        ("e14-multimodal", include_str!("../e14-multimodal.toml")),
    ]
}
