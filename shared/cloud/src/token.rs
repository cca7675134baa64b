//! Admits pushes that carry a token of Google's for the service account that may push.
//!
//! Invariant: a push is admitted only with a token whose signature, issuer, audience, e-mail address and times were all
//! there and right. What is in a token is in no log, no error and no answer.
//!
//! IAM has checked the same token before, so this is the second lock. Cloud Run takes the signature off some tokens
//! when it has checked them, those in `X-Serverless-Authorization` and those of people, and puts
//! `SIGNATURE_REMOVED_BY_GOOGLE` there. Such a token proves nothing here: it is refused, and the log says why.

use std::error::Error as _;
use std::time::Duration;

use async_trait::async_trait;
use axum::http::{HeaderMap, header};
use google_cloud_auth::credentials::idtoken::verifier::{Builder, Error, Map, Value, Verifier};
use jsonwebtoken::Algorithm;
use jsonwebtoken::errors::ErrorKind;
use shared::clock::{SharedClock, Timestamp};
use shared::function::{Admission, NotAdmitted};
use tokio::sync::Mutex;

use crate::refusal::sentence;
use crate::service::settings::Push;
use crate::{choose_cryptography, crypto};

/// Both spellings are Google's.
const ISSUERS: [&str; 2] = ["https://accounts.google.com", "accounts.google.com"];
/// So far may two clocks be apart.
const SKEW: Duration = Duration::from_secs(10);
/// The keys are fetched in this time or not at all.
const PATIENCE: Duration = Duration::from_secs(10);
/// So much is logged of why the keys cannot be had.
const LONGEST_REASON: usize = 300;

/// Checks the tokens of pushes.
pub struct PushTokens {
    push: Push,
    /// One at a time: the verifier fails when two need its keys at once.
    verifier: Mutex<Verifier>,
    clock: SharedClock,
}

impl PushTokens {
    /// Admits who `push` names; keys are fetched with the first token.
    pub fn new(push: Push, clock: SharedClock) -> Self {
        choose_cryptography();
        crypto::install();
        // The e-mail address is compared below: the verifier panics at a token that has none.
        let verifier = Builder::new([push.audience.as_str()]).with_clock_skew(SKEW);
        let verifier = match &push.keys {
            Some(keys) => verifier.with_jwks_url(keys),
            None => verifier,
        };
        Self { push, verifier: Mutex::new(verifier.build()), clock }
    }

    async fn verify(&self, token: &str) -> Result<Map<String, Value>, NotAdmitted> {
        let verified = async { self.verifier.lock().await.verify(token).await };
        match tokio::time::timeout(PATIENCE, verified).await {
            Ok(verified) => verified.map_err(|error| why(&error)),
            Err(_) => {
                let reason = format!("the keys of push tokens did not come within {} s", PATIENCE.as_secs());
                Err(NotAdmitted::Unchecked(reason))
            }
        }
    }

    /// Compares what a token says. Of a claim that is missing the verifier says nothing.
    fn compare(&self, claims: &Map<String, Value>, now: Timestamp) -> Result<(), NotAdmitted> {
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        if !text("iss").is_some_and(|issuer| ISSUERS.contains(&issuer)) {
            return Err(unverified("the token is not issued by Google"));
        }
        if text("aud") != Some(self.push.audience.as_str()) {
            return Err(unverified("the token is for another audience"));
        }
        if text("email") != Some(self.push.account.as_str()) {
            return Err(unverified("the token is of another account than may push"));
        }
        if claims.get("email_verified") != Some(&Value::Bool(true)) {
            return Err(unverified("the token's e-mail address is not verified"));
        }
        let latest = now.timestamp() + i64::try_from(SKEW.as_secs()).unwrap_or(0);
        for name in ["iat", "nbf"] {
            match claims.get(name) {
                None if name == "nbf" => (),
                Some(time) if time.as_i64().is_some_and(|time| time <= latest) => (),
                _ => return Err(unverified("the token is not valid yet")),
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Admission for PushTokens {
    async fn admit(&self, headers: &HeaderMap) -> Result<(), NotAdmitted> {
        let token = bearer(headers)?;
        if token.ends_with(".SIGNATURE_REMOVED_BY_GOOGLE") {
            return Err(unverified("Cloud Run has removed the token's signature, so it proves nothing here"));
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| unverified("the token is no signed JWT"))?;
        if !matches!(header.alg, Algorithm::RS256 | Algorithm::ES256) {
            return Err(unverified("the token is not signed as Google signs"));
        }
        let claims = self.verify(token).await?;
        self.compare(&claims, self.clock.now())
    }
}

/// The token that the request carries, if it carries one.
fn bearer(headers: &HeaderMap) -> Result<&str, NotAdmitted> {
    let mut said = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(said), None) = (said.next(), said.next()) else {
        return Err(unverified("there is not one Authorization header"));
    };
    let said = said.to_str().ok().and_then(|said| said.split_once(' '));
    match said {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() => Ok(token),
        _ => Err(unverified("the Authorization header holds no bearer token")),
    }
}

fn unverified(reason: &str) -> NotAdmitted {
    NotAdmitted::Unverified(reason.to_owned())
}

/// What the verifier's error means, in words that hold nothing of the token.
fn why(error: &Error) -> NotAdmitted {
    let causes = || std::iter::successors(error.source(), |&cause| cause.source());
    if error.is_load_cert() {
        // Without a failed request the keys were there, and the token's was not among them or is no key.
        return if causes().any(|cause| cause.is::<reqwest::Error>()) {
            let reason: String = sentence(error).chars().take(LONGEST_REASON).collect();
            NotAdmitted::Unchecked(format!("the keys of push tokens cannot be had: {reason}"))
        } else {
            unverified("the token is not signed with a key of Google's")
        };
    }
    let kind = causes().find_map(|cause| cause.downcast_ref::<jsonwebtoken::errors::Error>());
    unverified(match kind.map(jsonwebtoken::errors::Error::kind) {
        Some(ErrorKind::ExpiredSignature) => "the token has expired",
        Some(ErrorKind::InvalidSignature) => "the token's signature is wrong",
        Some(ErrorKind::InvalidIssuer) => "the token is not issued by Google",
        Some(ErrorKind::InvalidAudience) => "the token is for another audience",
        _ => "the token is not valid",
    })
}
