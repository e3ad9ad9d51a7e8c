// Which cipher suites a context offers or accepts. TLS 1.3 suites are all forward secret and always on.

/// Which cipher suites of TLS 1.2 and older a context allows. None ever allows a suite without encryption or
/// without authentication.
public enum CipherPolicy: Sendable, Equatable {
    /// Only suites with an ephemeral key exchange on elliptic curves and authenticated encryption: what NCSC-NL 2025-05
    /// calls sufficient or good; keys and digests of at least 112 bits. A server has no other groups either, in any version.
    case forwardSecret
    /// Whatever encrypts and authenticates, old versions included: for a client whose judge looks at the evidence
    /// afterwards and refuses what a ruleset does not allow.
    case encrypted
    /// A cipher list in OpenSSL's own syntax.
    case list(String)

    var openSSLList: String {
        switch self {
        case .forwardSecret:
            "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL:!eNULL:!PSK:!SRP:@SECLEVEL=2"
        case .encrypted:
            "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20:ALL:!aNULL:!eNULL:!PSK:!SRP:@SECLEVEL=0"
        case .list(let list): list
        }
    }
}
