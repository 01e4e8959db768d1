//! Chores of the repository: `cargo xtask schema FACTS` turns upstream's field facts into the tables that `meta` and `apiserver` carry,
//! `cargo xtask rbac FACTS` its default roles and bindings into the table that a fresh cluster is filled from.
mod enums;
mod rbac;
mod schema;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask schema FACTS    (FACTS: the folder with fields.tsv, enums.tsv and definitions.json)
       cargo xtask rbac FACTS      (FACTS: the folder with cluster-roles.yaml and the other default roles and bindings)";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["schema", facts] => write_schema(Path::new(facts)),
        ["rbac", facts] => write_rbac(Path::new(facts)),
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

fn read(facts: &Path, name: &str) -> Result<String, String> {
    let path = facts.join(name);
    std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
}

fn write_rbac(facts: &Path) -> Result<(), String> {
    let files: Result<Vec<String>, String> = rbac::FILES.iter().map(|name| read(facts, name)).collect();
    write("../apiserver/src/bootstrap/rbac.txt", &rbac::generate(&files?)?)
}

fn write_schema(facts: &Path) -> Result<(), String> {
    let read = |name: &str| read(facts, name);
    let table = schema::generate(&read("fields.tsv")?, &read("definitions.json")?)?;
    let enums = enums::generate(&read("enums.tsv")?)?;
    write("../meta/src/schema/builtin.tbl", &table)?;
    write("../apiserver/src/openapi/enums.tsv", &enums)
}

fn write(path: &str, content: &str) -> Result<(), String> {
    let target = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::write(&target, content).map_err(|error| format!("{}: {error}", target.display()))
}
