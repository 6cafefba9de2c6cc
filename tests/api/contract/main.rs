//! Docker's API as its clients use it, case by case. Each test is a topic; each line in it a case.
//! `make test-against-docker` runs the same cases against the real Docker, which proves the cases.
#![allow(unused_crate_dependencies)]

mod system;
