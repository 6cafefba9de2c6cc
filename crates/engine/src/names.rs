//! Names that the engine makes up for containers: an adjective and a person of computing or science.

use droste_model::name::ContainerName;

const ADJECTIVES: [&str; 56] = [
    "amused", "awake", "bold", "brave", "bright", "brisk", "calm", "cheerful", "clever", "cosy", "curious", "daring",
    "deft", "eager", "earnest", "fair", "fond", "frank", "free", "gentle", "glad", "golden", "grand", "happy",
    "hearty", "honest", "jolly", "keen", "kind", "lively", "lucid", "lucky", "mellow", "merry", "mild", "modest",
    "neat", "noble", "patient", "plucky", "polite", "proud", "quick", "quiet", "ready", "serene", "sharp", "steady",
    "sunny", "swift", "tidy", "vivid", "warm", "wise", "witty", "zealous",
];

const PEOPLE: [&str; 56] = [
    "abel",
    "allen",
    "babbage",
    "banach",
    "boole",
    "borg",
    "cantor",
    "cerf",
    "church",
    "codd",
    "conway",
    "cray",
    "curie",
    "dijkstra",
    "engelbart",
    "erdos",
    "escher",
    "euclid",
    "euler",
    "fermat",
    "floyd",
    "galois",
    "gauss",
    "germain",
    "goedel",
    "goldberg",
    "hamilton",
    "hamming",
    "hilbert",
    "hoare",
    "hopper",
    "huffman",
    "kay",
    "keller",
    "kernighan",
    "kleene",
    "knuth",
    "kolmogorov",
    "lamport",
    "lamarr",
    "liskov",
    "lovelace",
    "mccarthy",
    "meitner",
    "milner",
    "minsky",
    "naur",
    "neumann",
    "nygaard",
    "perlman",
    "ritchie",
    "shannon",
    "thompson",
    "torvalds",
    "turing",
    "wirth",
];

/// The name number `attempt` that `seed` gives. Later attempts carry a digit, so a free one is always found.
pub(crate) fn suggest(seed: u64, attempt: u32) -> Option<ContainerName> {
    let pick = |list: &[&'static str], by: u64| list[usize::try_from(by % list.len() as u64).unwrap_or(0)];
    let adjective = pick(&ADJECTIVES, seed);
    let person = pick(&PEOPLE, seed / ADJECTIVES.len() as u64);
    let text = if attempt == 0 { format!("{adjective}_{person}") } else { format!("{adjective}_{person}{attempt}") };
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_gives_a_valid_name() {
        for seed in 0..4000 {
            assert!(suggest(seed, 0).is_some());
        }
        assert_ne!(suggest(7, 0), suggest(7, 1));
        assert!(suggest(u64::MAX, 1).is_some_and(|name| name.as_str().ends_with('1')));
    }
}
