//! Chores of the repository: `cargo xtask schema FACTS` turns upstream's field facts into the tables that `meta` and `apiserver` carry.
mod enums;
mod schema;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str =
    "usage: cargo xtask schema FACTS    (FACTS: the folder with fields.tsv, enums.tsv and definitions.json)";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["schema", facts] => write_schema(Path::new(facts)),
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn write_schema(facts: &Path) -> Result<(), String> {
    let read = |name: &str| {
        let path = facts.join(name);
        std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let table = schema::generate(&read("fields.tsv")?, &read("definitions.json")?)?;
    let enums = enums::generate(&read("enums.tsv")?)?;
    write("../meta/src/schema/builtin.tbl", &table)?;
    write("../apiserver/src/openapi/enums.tsv", &enums)
}

fn write(path: &str, content: &str) -> Result<(), String> {
    let target = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::write(&target, content).map_err(|error| format!("{}: {error}", target.display()))
}
