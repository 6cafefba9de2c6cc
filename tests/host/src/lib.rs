//! Holds no code: the tests are in `vm/` and `workspace/`.
