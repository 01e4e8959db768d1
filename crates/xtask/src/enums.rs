//! The table of enumerated string types that OpenAPI documents show: the facts, and the values of those types whose constants the facts
//! could not read because they are written in terms of others.

const WRITTEN_INDIRECTLY: &[(&str, &str, &str)] = &[
    ("discovery", "AddressType", "FQDN,IPv4,IPv6"),
    ("networking", "PathType", "Exact,ImplementationSpecific,Prefix"),
    ("resource", "DeviceAllocationMode", "All,ExactCount"),
];

/// One line a type: Go package, type and values. The first line of the facts names the columns.
pub fn generate(facts: &str) -> Result<String, String> {
    facts.lines().skip(1).map(row).collect()
}

fn row(line: &str) -> Result<String, String> {
    let columns: Vec<&str> = line.split('\t').collect();
    let [package, name, values] = columns[..] else { return Err(format!("enums.tsv: {line:?}")) };
    let folder = package.split('/').next().unwrap_or_default();
    let indirect = WRITTEN_INDIRECTLY.iter().find(|row| (row.0, row.1) == (folder, name));
    let values = indirect.map_or(values, |row| row.2);
    if values.is_empty() {
        return Err(format!("enums.tsv: {package} {name} has no values"));
    }
    Ok(format!("{package}\t{name}\t{values}\n"))
}
