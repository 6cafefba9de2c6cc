//! Holds no code: the contract is in `contract/`.
