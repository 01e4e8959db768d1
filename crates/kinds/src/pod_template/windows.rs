//! What Windows' containers say of themselves: credentials, the user that they run as, and processes of the host. Nothing here
//! runs them; it checks what they say.

use super::spec::each_container;
use crate::check::{Errors, messages};
use crate::tree::{flag, get};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::Value;

const MAX_CREDENTIAL_KIB: usize = 64;
const MAX_DOMAIN_BYTES: usize = 256;
const MAX_USER_BYTES: usize = 104;
const MAX_NETBIOS_CHARACTERS: usize = 15;
const OPTIONS: [&str; 3] = ["securityContext", "windowsOptions", "hostProcess"];

/// Checks the `windowsOptions` of a pod or container.
pub(super) fn options(context: &Value, path: &Path, errors: &mut Errors) {
    let Some(options) = get(context, "windowsOptions") else { return };
    let path = path.child("windowsOptions");
    let field = |key: &str| get(options, key).and_then(Value::as_str);
    if let Some(name) = field("gmsaCredentialSpecName") {
        messages(names::dns1123_subdomain(name), name, &path.child("gmsaCredentialSpecName"), errors);
    }
    if let Some(credential) = field("gmsaCredentialSpec") {
        let path = path.child("gmsaCredentialSpec");
        if credential.is_empty() {
            errors.push(FieldError::invalid(
                &path,
                credential,
                "gmsaCredentialSpec cannot be an empty string",
            ));
        } else if credential.len() > MAX_CREDENTIAL_KIB * 1024 {
            let detail = format!("gmsaCredentialSpec size must be under {MAX_CREDENTIAL_KIB} KiB");
            errors.push(FieldError::invalid(&path, credential, detail));
        }
    }
    if let Some(name) = field("runAsUserName") {
        user_name(name, &path.child("runAsUserName"), errors);
    }
}

/// A user, with a domain before a backslash or without.
fn user_name(name: &str, path: &Path, errors: &mut Errors) {
    let mut refuse = |detail: String| errors.push(FieldError::invalid(path, name, detail));
    let of = |problem: &str| format!("runAsUserName{problem}");
    if name.is_empty() {
        return refuse(of(" cannot be an empty string"));
    }
    if name.chars().any(|character| character.is_ascii_control()) {
        return refuse(of(" cannot contain control characters"));
    }
    if name.matches('\\').count() > 1 {
        return refuse(of(" cannot contain more than one backslash"));
    }
    let (domain, user) = match name.split_once('\\') {
        Some((domain, user)) => (Some(domain), user),
        None => (None, name),
    };
    if let Some(domain) = domain {
        if domain.len() >= MAX_DOMAIN_BYTES {
            refuse(of(&format!("'s Domain length must be under {MAX_DOMAIN_BYTES} characters")));
        }
        if !is_netbios_name(domain) && !is_dns_name(domain) {
            refuse(of("'s Domain doesn't match the NetBios nor the DNS format"));
        }
    }
    if user.is_empty() {
        refuse(of("'s User cannot be empty"));
    } else if user.len() > MAX_USER_BYTES {
        refuse(of(&format!("'s User length must not be longer than {MAX_USER_BYTES} characters")));
    }
    if !user.is_empty() && user.chars().all(|character| matches!(character, '.' | ' ')) {
        refuse(of("'s User cannot contain only periods or spaces"));
    }
    if user.contains(|character| "\"/\\:;|=,+*?<>@[]".contains(character)) {
        refuse(of("'s User cannot contain the following characters: \"/\\:;|=,+*?<>@[]"));
    }
}

fn is_netbios_name(domain: &str) -> bool {
    let allowed = |character: char| !"\\/:*?\"<>|".contains(character);
    (1..=MAX_NETBIOS_CHARACTERS).contains(&domain.chars().count())
        && !domain.starts_with('.')
        && domain.chars().all(allowed)
}

fn is_dns_name(domain: &str) -> bool {
    domain.split('.').all(|label| names::dns1123_label(&label.to_ascii_lowercase()).is_empty())
}

/// A pod runs processes of the host with all of its containers or with none, and then in the host's network.
pub(super) fn host_processes(spec: &Value, path: &Path, errors: &mut Errors) {
    let says = |owner: &Value| crate::tree::at(owner, &OPTIONS).as_bool();
    let of_pod = says(spec);
    let all = each_container(spec, path);
    let mut on_host = 0;
    for (path, container) in &all {
        let own = says(container);
        if let (Some(pod), Some(own)) = (of_pod, own)
            && pod != own
        {
            let detail = format!("pod hostProcess value must be identical if both are specified, was {pod}");
            errors.push(FieldError::invalid(&path.children(&OPTIONS), own, detail));
        }
        on_host += usize::from(own.or(of_pod) == Some(true));
    }
    if on_host == 0 {
        return;
    }
    if on_host != all.len() {
        let detail =
            "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.push(FieldError::invalid(path, "", detail));
    }
    if !flag(spec, "hostNetwork") {
        let detail = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.push(FieldError::invalid(&path.child("hostNetwork"), false, detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts(errors: &Errors) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn user_names_are_checked() {
        let check = |name: &str, expected: &[&str]| {
            let mut errors = Errors::new();
            user_name(name, &Path::new("u"), &mut errors);
            let details: Vec<_> = errors.into_iter().map(|error| error.detail).collect();
            assert_eq!(details, expected, "{name}");
        };
        check("ContainerUser", &[]);
        check(r"NT AUTHORITY\NETWORK SERVICE", &[]);
        check(r"my.domain.example\me", &[]);
        check("", &["runAsUserName cannot be an empty string"]);
        check("a\nb", &["runAsUserName cannot contain control characters"]);
        check(r"a\b\c", &["runAsUserName cannot contain more than one backslash"]);
        check(r"a\", &["runAsUserName's User cannot be empty"]);
        check(r".a\b", &["runAsUserName's Domain doesn't match the NetBios nor the DNS format"]);
        check(". .", &["runAsUserName's User cannot contain only periods or spaces"]);
        check("a:b", &["runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]"]);
        check(&"a".repeat(105), &["runAsUserName's User length must not be longer than 104 characters"]);
    }

    #[test]
    fn processes_of_the_host_are_all_or_none() {
        let check = |pod: Value, containers: &[Value], expected: &[&str]| {
            let containers: Vec<_> = containers
                .iter()
                .map(|own| json!({"securityContext": {"windowsOptions": {"hostProcess": own}}}))
                .collect();
            let spec = json!({"securityContext": {"windowsOptions": {"hostProcess": pod}}, "containers": containers});
            let mut errors = Errors::new();
            host_processes(&spec, &Path::new("spec"), &mut errors);
            assert_eq!(texts(&errors), expected);
        };
        let network = "spec.hostNetwork: Invalid value: false: hostNetwork must be true if pod contains any hostProcess containers";
        check(json!(null), &[json!(false), json!(null)], &[]);
        check(json!(true), &[json!(null)], &[network]);
        check(
            json!(null),
            &[json!(true), json!(null)],
            &[
                "spec: Invalid value: \"\": If pod contains any hostProcess containers then all containers must be HostProcess containers",
                network,
            ],
        );
        check(
            json!(false),
            &[json!(true)],
            &[
                "spec.containers[0].securityContext.windowsOptions.hostProcess: Invalid value: true: pod hostProcess value must be identical if both are specified, was false",
                network,
            ],
        );
    }
}
