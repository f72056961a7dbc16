//! Certificates made for one test: an authority, and what it issues.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
}

/// A certificate and its key.
pub struct Identity {
    pub certificate: Vec<u8>,
    /// PKCS#8.
    pub key: Vec<u8>,
}

/// The years in which a certificate is valid.
pub type Years = (i32, i32);
pub const NOW: Years = (2000, 2090);
pub const PAST: Years = (2000, 2001);
pub const FUTURE: Years = (2090, 2091);

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = params(name, &[], NOW);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        Authority {
            issuer,
            certificate,
        }
    }

    pub fn pem(&self) -> String {
        pem("CERTIFICATE", self.certificate.der())
    }

    pub fn server(&self, names: &[&str]) -> Identity {
        self.server_in(names, NOW)
    }

    pub fn server_in(&self, names: &[&str], years: Years) -> Identity {
        let mut params = params("a broker", names, years);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(&params)
    }

    pub fn client(&self, name: &str, years: Years) -> Identity {
        let mut params = params(name, &[], years);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(&params)
    }

    /// For a client that has a key already, in PKCS#8: the certificate alone, as PEM.
    pub fn client_with(&self, key: &[u8]) -> String {
        let mut params = params("a client", &[], NOW);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::try_from(key).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        pem("CERTIFICATE", certificate.der())
    }

    fn issue(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity::new(&certificate, &key)
    }
}

impl Identity {
    /// One that is its own authority, as `openssl req -x509` makes them.
    pub fn own_authority(names: &[&str], years: Years) -> Identity {
        let mut params = params("a broker", names, years);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Identity::new(&params.self_signed(&key).unwrap(), &key)
    }

    fn new(certificate: &Certificate, key: &KeyPair) -> Identity {
        Identity {
            certificate: certificate.der().to_vec(),
            key: key.serialize_der(),
        }
    }

    pub fn certificate_pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    pub fn key_pem(&self) -> String {
        pem("PRIVATE KEY", &self.key)
    }

    /// The key in the form that OpenSSL wrote before PKCS#8: what is wrapped in it.
    pub fn sec1_pem(&self) -> String {
        // SEQUENCE { INTEGER 0, SEQUENCE { algorithm }, OCTET STRING { the key } }, all of them short.
        let start = |at: usize| at + if self.key[at + 1] < 0x80 { 2 } else { 3 };
        let length = |at: usize| match self.key[at + 1] {
            0x81 => usize::from(self.key[at + 2]),
            short => usize::from(short),
        };
        let version = start(0);
        let algorithm = start(version) + length(version);
        let octets = start(algorithm) + length(algorithm);
        assert_eq!(self.key[octets], 4, "an OCTET STRING");
        let inner = &self.key[start(octets)..start(octets) + length(octets)];
        pem("EC PRIVATE KEY", inner)
    }

    /// Writes it into a folder as `<name>.crt` and `<name>.key`.
    pub fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        (
            write(folder, &format!("{name}.crt"), &self.certificate_pem()),
            write(folder, &format!("{name}.key"), &self.key_pem()),
        )
    }
}

/// What is below a listener that speaks TLS; its certificate's files are written too.
pub fn encrypted(folder: &Path, name: &str, identity: &Identity) -> String {
    let (certificate, key) = identity.write(folder, name);
    format!(
        "certfile {}\nkeyfile {}\n",
        certificate.display(),
        key.display()
    )
}

/// The same, and only clients of an authority are let in.
pub fn exclusive(folder: &Path, name: &str, identity: &Identity, clients: &Authority) -> String {
    let ca = write(folder, &format!("{name}.clients.crt"), &clients.pem());
    let base = encrypted(folder, name, identity);
    let ca = ca.display();
    format!("{base}cafile {ca}\nrequire_certificate true\n")
}

/// Writes an authority's certificate; gives the file's name as an argument.
pub fn trusted(folder: &Path, name: &str, authority: &Authority) -> String {
    let file = write(folder, name, &authority.pem());
    file.display().to_string()
}

/// Writes a file into a folder.
pub fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let file = folder.join(name);
    std::fs::write(&file, text).unwrap();
    file
}

fn params(name: &str, names: &[&str], years: Years) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(years.0, 1, 1);
    params.not_after = date_time_ymd(years.1, 1, 1);
    params
}

/// A section of a PEM file.
pub fn pem(kind: &str, der: &[u8]) -> String {
    let text = base64(der);
    let lines: Vec<&str> = (0..text.len())
        .step_by(64)
        .map(|at| &text[at..text.len().min(at + 64)])
        .collect();
    let body = lines.join("\n");
    format!("-----BEGIN {kind}-----\n{body}\n-----END {kind}-----\n")
}

pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let three = [
            group[0],
            group.get(1).copied().unwrap_or(0),
            group.get(2).copied().unwrap_or(0),
        ];
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit)) & 0x3F;
            text.push(if digit <= group.len() {
                char::from(DIGITS[usize::try_from(index).unwrap()])
            } else {
                '='
            });
        }
    }
    text
}
