//! CertificateApproval, CertificateSigning, ClusterTrustBundleAttest and CertificateSubjectRestriction: who may speak for a signer, and
//! which subject nobody gets from the API.

use super::{Operation, Review, Validate};
use crate::authz::{Authorize, Decision};
use crate::error::ApiResult;
use crate::request::{Attributes, RequestInfo};
use futures_util::future::BoxFuture;
use nauplius_kinds::csr_organizations;
use serde_json::Value;
use std::sync::Arc;

const GROUP: &str = "certificates.k8s.io";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";
const ADMINS: &str = "system:masters";
const NO_ADMINS: &str =
    "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed";

/// All four plugins.
pub struct Signers {
    authorizer: Arc<dyn Authorize>,
}

/// What somebody must be allowed to do with a signer for the write to pass, and how a refusal says it.
struct Claim<'a> {
    verb: &'static str,
    signer: &'a str,
    refusal: &'static str,
}

impl Signers {
    /// Asks `authorizer`.
    pub fn new(authorizer: Arc<dyn Authorize>) -> Self {
        Self { authorizer }
    }

    async fn allows(&self, review: &Review<'_>, verb: &str, name: &str) -> bool {
        let info = RequestInfo {
            is_resource: true,
            verb: verb.to_owned(),
            group: GROUP.to_owned(),
            version: "*".to_owned(),
            resource: "signers".to_owned(),
            name: name.to_owned(),
            ..RequestInfo::default()
        };
        let user = Arc::new(review.user.clone());
        let attributes = Attributes { user, info, field_selector: None, label_selector: None };
        self.authorizer.authorize(&attributes).await.decision == Decision::Allow
    }

    /// By the signer's name, or by that of all signers of its domain.
    async fn check(&self, review: &Review<'_>, claim: Claim<'_>, object: &Value) -> ApiResult<()> {
        let domain = claim.signer.split('/').next().unwrap_or_default();
        if self.allows(review, claim.verb, claim.signer).await
            || self.allows(review, claim.verb, &format!("{domain}/*")).await
        {
            return Ok(());
        }
        Err(review.forbidden(Some(object), format!("{} {:?}", claim.refusal, claim.signer)))
    }
}

/// What the write claims, if it speaks for a signer.
fn claim<'a>(review: &Review<'_>, object: &'a Value, old: Option<&'a Value>) -> Option<Claim<'a>> {
    const APPROVE: &str = "user not permitted to approve requests with signerName";
    const SIGN: &str = "user not permitted to sign requests with signerName";
    const ATTEST: &str = "user not permitted to attest for signerName";
    let signer = |of: &'a Value| of["spec"]["signerName"].as_str().unwrap_or_default();
    let differs = |field: &str| old.is_some_and(|old| old["status"][field] != object["status"][field]);
    let claim = |verb, signer, refusal| Some(Claim { verb, signer, refusal });
    match (review.resource.resource.as_str(), review.subresource, review.operation) {
        ("certificatesigningrequests", "approval", Operation::Update) => {
            claim("approve", signer(old?), APPROVE)
        }
        ("certificatesigningrequests", "status", Operation::Update)
            if differs("certificate") || differs("conditions") =>
        {
            claim("sign", signer(old?), SIGN)
        }
        ("podcertificaterequests", "status", Operation::Update) if old?["status"] != object["status"] => {
            claim("sign", signer(old?), SIGN)
        }
        ("clustertrustbundles", "", Operation::Create | Operation::Update) if !signer(object).is_empty() => {
            let is_same = old.is_some_and(|old| old["spec"] == object["spec"]);
            if is_same { None } else { claim("attest", signer(object), ATTEST) }
        }
        _ => None,
    }
}

/// Whether somebody asks for a certificate that would make them an administrator.
fn asks_for_all(review: &Review<'_>, object: &Value) -> bool {
    review.is_for(GROUP, "certificatesigningrequests")
        && review.operation == Operation::Create
        && object["spec"]["signerName"] == CLIENT_SIGNER
        && csr_organizations(object["spec"]["request"].as_str().unwrap_or_default())
            .iter()
            .any(|organization| organization == ADMINS)
}

impl Validate for Signers {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    fn validate<'a>(
        &'a self,
        review: &'a Review<'a>,
        object: Option<&'a Value>,
        old: Option<&'a Value>,
    ) -> BoxFuture<'a, ApiResult<()>> {
        Box::pin(async move {
            let Some(object) = object.filter(|_| review.resource.group == GROUP) else { return Ok(()) };
            if asks_for_all(review, object) {
                return Err(review.forbidden(Some(object), NO_ADMINS));
            }
            match claim(review, object, old) {
                Some(claim) => self.check(review, claim, object).await,
                None => Ok(()),
            }
        })
    }
}
