//! Tokens as Pub/Sub puts them on its pushes, with a key that a test has made: for the tests of those who check them.

#![allow(clippy::unwrap_used, reason = "these are parts of tests")]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

/// The id of a signer's key, as [`header`] names it.
pub const KEY: &str = "k1";

/// A key that can sign, as ES256.
pub struct Signer(EcdsaKeyPair);

impl Default for Signer {
    fn default() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        Self(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap())
    }
}

impl Signer {
    /// The set of keys that holds its public part, as Google serves its own.
    pub fn keys(&self) -> Value {
        let (x, y) = self.0.public_key().as_ref()[1..].split_at(32);
        let (x, y) = (BASE64URL.encode(x), BASE64URL.encode(y));
        let key = json!({ "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": KEY, "x": x, "y": y });
        json!({ "keys": [key] })
    }

    /// A token of these parts, whatever they say.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| BASE64URL.encode(value.to_string());
        let said = format!("{}.{}", part(header), part(claims));
        let signature = self.0.sign(&SystemRandom::new(), said.as_bytes()).unwrap();
        format!("{said}.{}", BASE64URL.encode(signature))
    }
}

/// The header of a token that [`KEY`] signs.
pub fn header() -> Value {
    json!({ "alg": "ES256", "kid": KEY, "typ": "JWT" })
}

/// The claims of a token of the service account `account` for `audience`, made at `now`, in seconds since 1970.
pub fn claims(audience: &str, account: &str, now: i64) -> Value {
    json!({
        "iss": "https://accounts.google.com",
        "aud": audience,
        "azp": "113774264463038321964",
        "sub": "113774264463038321964",
        "email": account,
        "email_verified": true,
        "iat": now - 5,
        "exp": now + 3600,
    })
}
