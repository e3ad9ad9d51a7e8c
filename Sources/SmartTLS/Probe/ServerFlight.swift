// What the first flight of a server says: which of the offered parameters it took, or an alert.

/// The parameters that a server chose, as far as its unencrypted messages tell.
struct ServerFlight: Sendable, Hashable {
    /// The version, as `supported_versions` has it where it is there (RFC 8446 §4.2.1).
    var version: ProtocolVersion
    /// The suite, by number.
    var suite: UInt16
    /// Whether it compresses.
    var compresses = false
    /// Whether this is a HelloRetryRequest (RFC 8446 §4.1.4).
    var isRetryRequest = false
    /// Whether it takes part in the extended master secret (RFC 7627).
    var hasExtendedMasterSecret = false
    /// Whether it knows secure renegotiation (RFC 5746).
    var isRenegotiationSecure = false
    /// The group of the key exchange, by number; nil without one, or with a curve that has no number.
    var group: UInt16?
    /// The prime of Diffie-Hellman before TLS 1.3.
    var prime: DiffieHellmanPrime?
    /// How the key exchange is signed in TLS 1.2, by number.
    var signature: UInt16?
    /// The certificates in DER, the server's own first; empty from TLS 1.3 on, where they are encrypted.
    var chain: [[UInt8]] = []
}

/// An alert (RFC 8446 §6).
struct TLSAlert: Sendable, Hashable, CustomStringConvertible {
    /// 1: a warning, 2: the end.
    let level: UInt8
    /// What it says, by number.
    let code: UInt8

    /// There is no parameter in common.
    static let handshakeFailure: UInt8 = 40
    /// The version is not supported.
    static let protocolVersion: UInt8 = 70

    /// `alert 40`.
    var description: String { "alert \(code)" }
}

/// Why octets are no first flight of a TLS server.
enum ServerFlightError: String, Error, Sendable, Hashable {
    /// The octets are no record of TLS: cleartext, SSL 2, or noise.
    case notTLS = "no TLS record"
    /// A record is longer than 16 KB (RFC 8446 §5.1), or empty.
    case recordLength = "a record of a length that none may have"
    /// A record of a kind that does not belong here.
    case unexpectedRecord = "a record that does not belong in a handshake"
    /// A message out of its order.
    case unexpectedMessage = "a message out of its order"
    /// A message is longer than any may be.
    case messageTooLong = "a message that is too long"
    /// A message does not hold what it announces.
    case malformedMessage = "a message that is not what it says"
    /// A version that does not exist.
    case unknownVersion = "a version that does not exist"
    /// More certificates than any chain has.
    case chainTooLong = "a chain of too many certificates"
    /// More octets than any first flight has.
    case tooManyOctets = "a flight that does not end"
    /// More warnings than any server sends.
    case tooManyWarnings = "warnings without end"
}
