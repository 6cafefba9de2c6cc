//! Holds no code: the tests are in `vm/`.
