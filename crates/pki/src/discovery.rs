//! The two documents by which others can check service account tokens: the OpenID configuration and the key set.

use crate::PublicKey;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

#[derive(Serialize)]
struct KeySet {
    keys: Vec<WebKey>,
}

#[derive(Serialize)]
struct WebKey {
    #[serde(rename = "use")]
    usage: &'static str,
    kty: &'static str,
    kid: String,
    crv: &'static str,
    alg: &'static str,
    x: String,
    y: String,
}

#[derive(Serialize)]
struct Configuration<'a> {
    issuer: &'a str,
    jwks_uri: &'a str,
    response_types_supported: [&'static str; 1],
    subject_types_supported: [&'static str; 1],
    id_token_signing_alg_values_supported: [&'static str; 1],
}

/// The body of `/openid/v1/jwks`.
pub fn jwks(keys: &[PublicKey]) -> String {
    let keys = keys.iter().map(|key| {
        let (x, y) = key.coordinates();
        WebKey {
            usage: "sig",
            kty: "EC",
            kid: key.key_id(),
            crv: "P-256",
            alg: "ES256",
            x: URL_SAFE_NO_PAD.encode(x),
            y: URL_SAFE_NO_PAD.encode(y),
        }
    });
    to_json(&KeySet { keys: keys.collect() })
}

/// The body of `/.well-known/openid-configuration`.
pub fn openid_configuration(issuer: &str, jwks_uri: &str) -> String {
    to_json(&Configuration {
        issuer,
        jwks_uri,
        response_types_supported: ["id_token"],
        subject_types_supported: ["public"],
        id_token_signing_alg_values_supported: ["ES256"],
    })
}

fn to_json(document: &impl Serialize) -> String {
    serde_json::to_string(document).expect("strings and lists of strings are always JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_have_upstreams_fields() {
        let configuration = openid_configuration("https://i", "https://i/openid/v1/jwks");
        assert_eq!(
            configuration,
            r#"{"issuer":"https://i","jwks_uri":"https://i/openid/v1/jwks","response_types_supported":["id_token"],"subject_types_supported":["public"],"id_token_signing_alg_values_supported":["ES256"]}"#
        );
        let key = *crate::PrivateKey::generate().unwrap().public();
        let set: serde_json::Value = serde_json::from_str(&jwks(&[key])).unwrap();
        assert_eq!(set["keys"][0]["kid"], key.key_id());
        assert_eq!(set["keys"][0]["x"].as_str().unwrap().len(), 43);
    }
}
