//! Collects the descriptions of types and fields from the sources of `k8s-openapi`, which carries upstream's, and compresses them for the
//! binary. It only reads: the crate and its schemas are not compiled for this, which would take a minute.

use flate2::Compression;
use flate2::write::DeflateEncoder;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, error, fs};

type Error = Box<dyn error::Error>;

const CRATE: &str = "k8s-openapi";
/// The folder of the API version that the workspace uses.
const VERSION_FOLDER: &str = "src/v1_37";
const VERSION_FEATURE: &str = "v1_37";
/// Between the parts of one type, and between types. Neither stands in prose.
const UNIT: char = '\u{1f}';
const RECORD: char = '\u{1e}';

fn main() -> Result<(), Error> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../../Cargo.lock");
    let mut types = BTreeMap::new();
    collect(&source()?.join(VERSION_FOLDER), &mut types)?;
    if types.len() < 700 {
        return Err(format!("only {} types were found in the sources of {CRATE}", types.len()).into());
    }
    let mut text = String::new();
    for (name, described) in &types {
        text.push_str(name);
        text.push(UNIT);
        text.push_str(&described.own);
        for (field, description) in &described.fields {
            text.push(UNIT);
            text.push_str(field);
            text.push(UNIT);
            text.push_str(description);
        }
        text.push(RECORD);
    }
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text.as_bytes())?;
    fs::write(out_dir()?.join("descriptions.deflate"), encoder.finish()?)?;
    println!("cargo::rustc-env=DESCRIPTIONS_SIZE={}", text.len());
    Ok(())
}

fn out_dir() -> Result<PathBuf, Error> {
    Ok(PathBuf::from(env::var("OUT_DIR")?))
}

/// Where cargo keeps the crate's sources. A package of no code that needs only this crate is asked for, with the workspace's own lock
/// file, so that nothing has to be there that the build has not fetched already.
fn source() -> Result<PathBuf, Error> {
    let home = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let lock = fs::read_to_string(home.join("../../Cargo.lock"))?;
    let version = locked_version(&lock).ok_or("the crate is not in Cargo.lock")?;
    let folder = out_dir()?.join("locate");
    fs::create_dir_all(folder.join("src"))?;
    fs::write(folder.join("src/lib.rs"), "")?;
    fs::write(folder.join("Cargo.lock"), &lock)?;
    let manifest = format!(
        "[package]\nname = \"locate\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n[dependencies]\n\
         {CRATE} = {{ version = \"={version}\", features = [\"{VERSION_FEATURE}\"] }}\n"
    );
    fs::write(folder.join("Cargo.toml"), manifest)?;
    let metadata = metadata(&home, &folder, true).or_else(|_| metadata(&home, &folder, false))?;
    let package = format!("\"name\":\"{CRATE}\",\"version\":\"");
    let path = metadata
        .split_once(&package)
        .and_then(|(_, rest)| rest.split_once("\"manifest_path\":\""))
        .and_then(|(_, rest)| rest.split_once('"'));
    let manifest = Path::new(path.ok_or("cargo metadata does not tell where the crate is")?.0);
    Ok(manifest.parent().ok_or("a manifest lies in a folder")?.to_owned())
}

fn locked_version(lock: &str) -> Option<&str> {
    let (_, rest) = lock.split_once(&format!("name = \"{CRATE}\"\nversion = \""))?;
    rest.split('"').next()
}

fn metadata(home: &Path, folder: &Path, offline: bool) -> Result<String, Error> {
    let mut command = Command::new(env::var("CARGO")?);
    // The working directory is where cargo looks for its configuration, such as replaced sources.
    command.current_dir(home).args(["metadata", "--format-version", "1", "--filter-platform"]);
    command.arg(env::var("TARGET")?).arg("--manifest-path").arg(folder.join("Cargo.toml"));
    if offline {
        command.arg("--offline");
    }
    let output = command.output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

#[derive(Default)]
struct Described {
    own: String,
    fields: BTreeMap<String, String>,
}

fn collect(folder: &Path, types: &mut BTreeMap<String, Described>) -> Result<(), Error> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, types)?;
        } else if let Some((name, described)) = read(&fs::read_to_string(&path)?) {
            types.insert(name, described);
        }
    }
    Ok(())
}

/// Reads the schema that stands at the end of the file of each type. The sources are generated, so their indentation says what a line is.
fn read(text: &str) -> Option<(String, Described)> {
    let (_, schema) = text.split_once("fn schema_name()")?;
    let mut lines = schema.lines();
    let name = lines.nth(1).and_then(|line| literal(line.trim_start()))?;
    let mut described = Described::default();
    let mut field = None;
    for line in lines {
        let indentation = line.len() - line.trim_start().len();
        let line = line.trim_start();
        match indentation {
            12 => described.own.extend(after(line, "\"description\": ")),
            16 if line.starts_with('"') => field = literal(line),
            20 => {
                let reference = "schema_obj.ensure_object().insert(\"description\".into(), ";
                let description = after(line, "\"description\": ").or_else(|| after(line, reference));
                if let Some(description) = description {
                    described.fields.extend(field.take().map(|field| (field, description)));
                }
            }
            _ => {}
        }
    }
    Some((name, described))
}

fn after(line: &str, start: &str) -> Option<String> {
    line.strip_prefix(start).and_then(literal)
}

/// The value of the string literal that the text starts with.
fn literal(text: &str) -> Option<String> {
    let mut characters = text.strip_prefix('"')?.chars();
    let mut value = String::new();
    loop {
        match characters.next()? {
            '"' => return Some(value),
            '\\' => match characters.next()? {
                'n' => value.push('\n'),
                't' => value.push('\t'),
                'r' => value.push('\r'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
}
