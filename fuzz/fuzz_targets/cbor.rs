#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (nauplius_fuzz::target("cbor").expect("it is among them").run)(bytes));
