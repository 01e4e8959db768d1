//! The meaning of method and path: upstream's `RequestInfo`. It knows the shape of paths, not which resources exist.

use super::Query;
use http::Method;
use percent_encoding::percent_decode_str;

/// A path that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Escapes that do not decode to UTF-8.
    #[error("the path is not valid UTF-8")]
    NotUtf8,
    /// `/api/v1/watch` without what to watch.
    #[error("unable to determine kind and namespace from url, {path}")]
    Incomplete {
        /// The path as sent.
        path: String,
    },
}

/// What a request asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// Whether an API resource is meant, in contrast to `/healthz` or `/apis`.
    pub is_resource: bool,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, `proxy`; for other paths the method in
    /// lower case.
    pub verb: String,
    /// `api` or `apis`.
    pub api_prefix: String,
    /// Empty for the core group.
    pub group: String,
    /// `v1`
    pub version: String,
    /// Empty for cluster-scoped resources and requests across namespaces.
    pub namespace: String,
    /// `pods`
    pub resource: String,
    /// `status`
    pub subresource: String,
    /// Empty for collections, unless a field selector names one object.
    pub name: String,
    /// The decoded path.
    pub path: String,
    /// What follows the subresource: the path to proxy to.
    pub trailing: Vec<String>,
}

impl RequestInfo {
    /// Reads method, path and query.
    ///
    /// # Errors
    /// When the path has a form that no resource can have.
    pub fn parse(method: &Method, raw_path: &str, query: &Query) -> Result<Self, PathError> {
        let path = percent_decode_str(raw_path).decode_utf8().map_err(|_| PathError::NotUtf8)?.into_owned();
        let mut info =
            Self { verb: method.as_str().to_ascii_lowercase(), path: path.clone(), ..Self::default() };
        let trimmed = path.trim_matches('/');
        let parts: Vec<&str> = if trimmed.is_empty() { Vec::new() } else { trimmed.split('/').collect() };
        if let Some(rest) = info.take_group_version(&parts) {
            let rest = info.take_verb(method, rest)?;
            let rest = info.take_namespace(rest);
            info.take_resource(rest);
            info.refine_verb(query);
        }
        Ok(info)
    }

    fn take_group_version<'a>(&mut self, parts: &'a [&'a str]) -> Option<&'a [&'a str]> {
        let rest = match parts {
            ["api", version, rest @ ..] if !rest.is_empty() => {
                "api".clone_into(&mut self.api_prefix);
                (*version).clone_into(&mut self.version);
                rest
            }
            ["apis", group, version, rest @ ..] if !rest.is_empty() => {
                "apis".clone_into(&mut self.api_prefix);
                (*group).clone_into(&mut self.group);
                (*version).clone_into(&mut self.version);
                rest
            }
            _ => return None,
        };
        self.is_resource = true;
        Some(rest)
    }

    fn take_verb<'a>(&mut self, method: &Method, parts: &'a [&'a str]) -> Result<&'a [&'a str], PathError> {
        if matches!(parts[0], "proxy" | "watch") {
            if parts.len() < 2 {
                return Err(PathError::Incomplete { path: self.path.clone() });
            }
            parts[0].clone_into(&mut self.verb);
            return Ok(&parts[1..]);
        }
        let verb = match method.as_str() {
            "POST" => "create",
            "GET" | "HEAD" => "get",
            "PUT" => "update",
            "PATCH" => "patch",
            "DELETE" => "delete",
            _ => "",
        };
        verb.clone_into(&mut self.verb);
        Ok(parts)
    }

    fn take_namespace<'a>(&mut self, parts: &'a [&'a str]) -> &'a [&'a str] {
        let ["namespaces", namespace, rest @ ..] = parts else { return parts };
        (*namespace).clone_into(&mut self.namespace);
        match rest {
            [] | ["status" | "finalize", ..] => parts,
            rest => rest,
        }
    }

    fn take_resource(&mut self, parts: &[&str]) {
        let part = |index: usize| parts.get(index).copied().unwrap_or_default().to_owned();
        self.resource = part(0);
        self.name = part(1);
        if self.verb != "proxy" {
            self.subresource = part(2);
        }
        self.trailing = parts.iter().skip(3).map(|part| (*part).to_owned()).collect();
    }

    fn refine_verb(&mut self, query: &Query) {
        if !self.name.is_empty() {
            return;
        }
        match self.verb.as_str() {
            "get" => {
                let watch = query.flag("watch");
                self.verb = if watch { "watch" } else { "list" }.to_owned();
                self.name = query.get("fieldSelector").and_then(selected_name).unwrap_or_default();
            }
            "delete" => "deletecollection".clone_into(&mut self.verb),
            _ => {}
        }
    }
}

/// The name that a field selector requires, if it does: authorization may then be for that name alone.
fn selected_name(selector: &str) -> Option<String> {
    selector.split(',').find_map(|term| {
        let (field, value) = term.split_once('=')?;
        let value = value.strip_prefix('=').unwrap_or(value);
        let fits = field == "metadata.name"
            && !value.is_empty()
            && !matches!(value, "." | "..")
            && !value.contains(['/', '%', '\\']);
        fits.then(|| value.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &str, target: &str, expected: &str) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let info = RequestInfo::parse(&method, path, &Query::parse(query)).unwrap();
        let shown = format!(
            "{} {}|{}|{}|{}|{}|{}",
            if info.is_resource { info.verb.clone() } else { format!("!{}", info.verb) },
            info.group,
            info.version,
            info.namespace,
            info.resource,
            info.name,
            info.subresource
        );
        assert_eq!(shown, expected, "{method} {target}");
    }

    #[test]
    fn paths_mean_what_upstream_reads() {
        check("GET", "/healthz", "!get |||||");
        check("GET", "/api", "!get |||||");
        check("GET", "/api/v1", "!get |||||");
        check("GET", "/apis/apps/v1", "!get |||||");
        check("GET", "/api/v1/pods", "list |v1||pods||");
        check("GET", "/api/v1/pods?watch=1", "watch |v1||pods||");
        check("GET", "/api/v1/pods?watch=false", "list |v1||pods||");
        check("GET", "/api/v1/watch/pods", "watch |v1||pods||");
        check("GET", "/api/v1/namespaces/a/pods/b", "get |v1|a|pods|b|");
        check("POST", "/api/v1/namespaces/a/pods/b/exec", "create |v1|a|pods|b|exec");
        check("GET", "/api/v1/namespaces", "list |v1||namespaces||");
        check("GET", "/api/v1/namespaces/a", "get |v1|a|namespaces|a|");
        check("PUT", "/api/v1/namespaces/a/finalize", "update |v1|a|namespaces|a|finalize");
        check("DELETE", "/apis/apps/v1/namespaces/a/deployments", "deletecollection apps|v1|a|deployments||");
        check("PATCH", "/apis/apps/v1/namespaces/a/deployments/d", "patch apps|v1|a|deployments|d|");
        check("GET", "/api/v1/pods?fieldSelector=metadata.name%3Dx,spec.a%3Db", "list |v1||pods|x|");
        check("GET", "/api/v1/namespaces/a/configmaps/b%3Ac", "get |v1|a|configmaps|b:c|");
    }

    #[test]
    fn watch_needs_a_resource() {
        let parsed = RequestInfo::parse(&Method::GET, "/api/v1/watch", &Query::default());
        assert!(matches!(parsed, Err(PathError::Incomplete { .. })));
    }
}
