//! Keys in the token: making, finding, using and destroying them. A key is found by its class and its id, 16 random bytes; more than
//! one of them is an error, never a guess.

use crate::uri::{self, Uri};
use crate::{Failed, Handle, Token, encoding};
use cryptoki::error::Error;
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use zegel_crypto::tsa::Algorithm;
use zegel_crypto::{Module, ModuleError, ModuleKey};
use zeroize::Zeroizing;

const PRIVATE: &str = "private";
const SECRET: &str = "secret-key";
const NONCE: usize = 12;
const TAG_BITS: u64 = 128;
/// Modulus bits of [`Algorithm::Rsa3072`].
const RSA_BITS: u64 = 3_072;
/// What is wrapped is a key or two; nothing long goes through a module.
const WRAP_MAX: usize = 64;

/// A private key in the token.
struct Key {
    token: Arc<Token>,
    uri: String,
    id: Vec<u8>,
    algorithm: Algorithm,
    public: Vec<u8>,
    /// Its handle, until the token says that it holds no more.
    handle: Mutex<Option<ObjectHandle>>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, {})", self.algorithm, self.uri)
    }
}

impl ModuleKey for Key {
    fn uri(&self) -> &str {
        &self.uri
    }

    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    fn public_bytes(&self) -> &[u8] {
        &self.public
    }

    fn sign_digest(&self, digest: &[u8]) -> Result<Vec<u8>, ModuleError> {
        let (mechanism, data) = match self.algorithm {
            Algorithm::Rsa3072 => (Mechanism::RsaPkcs, encoding::digest_info(digest)),
            Algorithm::P256 | Algorithm::P384 => (Mechanism::Ecdsa, digest.to_vec()),
        };
        let raw = self.token.with(|session| {
            let known = *self.handle.lock().unwrap_or_else(PoisonError::into_inner);
            let handle = match known {
                Some(handle) => handle,
                None => only(session, ObjectClass::PRIVATE_KEY, &self.id)?,
            };
            let signed = session.sign(&mechanism, handle, &data);
            // After a failure the next try looks for it again.
            *self.handle.lock().unwrap_or_else(PoisonError::into_inner) = signed.is_ok().then_some(handle);
            signed
        })?;
        match self.algorithm {
            Algorithm::Rsa3072 => Ok(raw),
            Algorithm::P256 | Algorithm::P384 => encoding::ecdsa_signature(&raw, self.algorithm),
        }
    }
}

impl Handle {
    /// Reads what is public of a key.
    fn read(&self, id: Vec<u8>, uri: String) -> Result<Arc<dyn ModuleKey>, ModuleError> {
        let token = &self.0;
        for (kind, class) in [("private", ObjectClass::PRIVATE_KEY), ("public", ObjectClass::PUBLIC_KEY)] {
            let found = token.with(|session| find(session, class, &id))?.len();
            if found != 1 {
                return Err(ModuleError::Key { kind, found });
            }
        }
        let wanted = [AttributeType::Modulus, AttributeType::PublicExponent];
        let attributes = token.with(|session| {
            let public = only(session, ObjectClass::PUBLIC_KEY, &id)?;
            let kind = session.get_attributes(public, &[AttributeType::KeyType])?;
            let is_rsa = kind.contains(&Attribute::KeyType(KeyType::RSA));
            let curve = [AttributeType::EcParams, AttributeType::EcPoint];
            session.get_attributes(public, if is_rsa { &wanted } else { &curve })
        })?;
        let (algorithm, public) = match <[Attribute; 2]>::try_from(attributes) {
            Ok([Attribute::Modulus(modulus), Attribute::PublicExponent(exponent)]) => {
                let bits = 8 * modulus.iter().skip_while(|byte| **byte == 0).count();
                if bits as u64 != RSA_BITS {
                    return Err(ModuleError::Answer("an RSA key that has not 3,072 bits"));
                }
                (Algorithm::Rsa3072, encoding::rsa_public(&modulus, &exponent)?)
            }
            Ok([Attribute::EcParams(curve), Attribute::EcPoint(point)]) => {
                let algorithm = encoding::on_curve(&curve);
                let algorithm = algorithm.ok_or(ModuleError::Answer("an EC key that is on neither P-256 nor P-384"))?;
                (algorithm, encoding::ec_point(&point, algorithm)?)
            }
            _ => return Err(ModuleError::Answer("a public key that is neither RSA nor EC")),
        };
        Ok(Arc::new(Key { token: token.clone(), uri, id, algorithm, public, handle: Mutex::new(None) }))
    }

    /// A fresh id, from the token's own source of randomness.
    fn fresh_id(&self) -> Result<Vec<u8>, ModuleError> {
        self.0.with(|session| session.generate_random_vec(16))
    }

    fn id_of(&self, uri: &str, kind: &str) -> Result<Vec<u8>, ModuleError> {
        uri.parse::<Uri>()?.key_id(&self.0.label, kind)
    }

    fn wrapping_key(&self, uri: &str) -> Result<Vec<u8>, ModuleError> {
        let id = self.id_of(uri, SECRET)?;
        match self.0.with(|session| find(session, ObjectClass::SECRET_KEY, &id))?.len() {
            1 => Ok(id),
            found => Err(ModuleError::Key { kind: "secret", found }),
        }
    }
}

impl Module for Handle {
    fn generate(&self, label: &str, algorithm: Algorithm) -> Result<Arc<dyn ModuleKey>, ModuleError> {
        let id = self.fresh_id()?;
        let common = [Attribute::Token(true), Attribute::Label(label.into()), Attribute::Id(id.clone())];
        let (mechanism, kind) = match encoding::curve(algorithm) {
            Some(curve) => (Mechanism::EccKeyPairGen, vec![Attribute::EcParams(curve.to_vec())]),
            None => {
                let exponent = Attribute::PublicExponent(vec![1, 0, 1]);
                (Mechanism::RsaPkcsKeyPairGen, vec![Attribute::ModulusBits(RSA_BITS.into()), exponent])
            }
        };
        let public = [&common[..], &kind, &[Attribute::Verify(true), Attribute::Private(false)]].concat();
        let private = [&common[..], &secret(), &[Attribute::Sign(true)]].concat();
        self.0.with(|session| session.generate_key_pair(&mechanism, &public, &private))?;
        self.read(id.clone(), uri::of_key(&self.0.label, label, &id, PRIVATE))
    }

    fn signing_key(&self, uri: &str) -> Result<Arc<dyn ModuleKey>, ModuleError> {
        self.read(self.id_of(uri, PRIVATE)?, uri.to_owned())
    }

    fn destroy(&self, uri: &str) -> Result<(), ModuleError> {
        let id = self.id_of(uri, PRIVATE)?;
        for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
            self.0.with(|session| {
                find(session, class, &id)?.into_iter().try_for_each(|object| session.destroy_object(object))
            })?;
        }
        Ok(())
    }

    fn generate_wrapping(&self, label: &str) -> Result<String, ModuleError> {
        let id = self.fresh_id()?;
        let own = [
            Attribute::Token(true),
            Attribute::Label(label.into()),
            Attribute::Id(id.clone()),
            Attribute::ValueLen(32.into()),
            Attribute::Encrypt(true),
            Attribute::Decrypt(true),
        ];
        let template = [&own[..], &secret()].concat();
        self.0.with(|session| session.generate_key(&Mechanism::AesKeyGen, &template))?;
        Ok(uri::of_key(&self.0.label, label, &id, SECRET))
    }

    fn wrap(&self, uri: &str, context: &[u8], plain: &[u8]) -> Result<Vec<u8>, ModuleError> {
        if plain.len() > WRAP_MAX {
            return Err(ModuleError::Answer("no: that is too long to wrap"));
        }
        let id = self.wrapping_key(uri)?;
        self.0.with(|session| {
            let key = only(session, ObjectClass::SECRET_KEY, &id)?;
            let mut nonce = {
                let mut nonce = vec![0; NONCE];
                session.generate_random_slice(&mut nonce)?;
                nonce
            };
            let mut given = nonce.clone();
            let mechanism = Mechanism::AesGcm(GcmParams::new(&mut given, context, TAG_BITS.into())?);
            nonce.extend(session.encrypt(&mechanism, key, plain)?);
            Ok(nonce)
        })
    }

    fn unwrap(&self, uri: &str, context: &[u8], wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, ModuleError> {
        let (nonce, sealed) =
            wrapped.split_at_checked(NONCE).ok_or(ModuleError::Answer("no: that is too short to unwrap"))?;
        let id = self.wrapping_key(uri)?;
        self.0.with(|session| {
            let key = only(session, ObjectClass::SECRET_KEY, &id)?;
            let mut given = nonce.to_vec();
            let mechanism = Mechanism::AesGcm(GcmParams::new(&mut given, context, TAG_BITS.into())?);
            session.decrypt(&mechanism, key, sealed).map(Zeroizing::new)
        })
    }
}

/// What every key of ours is that must not leave.
fn secret() -> [Attribute; 3] {
    [Attribute::Private(true), Attribute::Sensitive(true), Attribute::Extractable(false)]
}

fn find(session: &Session, class: ObjectClass, id: &[u8]) -> Result<Vec<ObjectHandle>, Failed> {
    session.find_objects(&[Attribute::Class(class), Attribute::Id(id.to_vec())])
}

/// The one object of a class and id.
fn only(session: &Session, class: ObjectClass, id: &[u8]) -> Result<ObjectHandle, Failed> {
    match find(session, class, id)?[..] {
        [object] => Ok(object),
        // Whoever asks first has counted them; here one came or went meanwhile.
        _ => Err(Error::InvalidValue),
    }
}
