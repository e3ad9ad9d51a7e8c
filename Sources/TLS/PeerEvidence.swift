// What a handshake proved about the other side, as a value that a judge reads and an event keeps.

/// What one completed handshake showed of the peer and of the connection.
public struct PeerEvidence: Sendable, Equatable {
    /// The negotiated protocol version.
    public var version: TLSVersion
    /// The negotiated suite by its IANA name, such as `TLS_AES_256_GCM_SHA384`.
    public var cipherSuite: String
    /// Whether the key exchange was ephemeral, so that a key stolen later opens nothing of this connection; in a finite field below
    /// 2048 bits it was not, whatever the suite calls itself (RFC 9325 §4.1).
    public var isForwardSecret: Bool
    /// The strength of the suite's symmetric key, in bits.
    public var cipherBits: Int
    /// The group of the key exchange, such as `x25519` or `secp256r1`; nil: none (RSA key transport).
    public var keyExchangeGroup: String?
    /// How the peer signed the handshake, such as `RSA-PSS+SHA256`; nil: it did not.
    public var signatureAlgorithm: String?
    /// The server name that the client asked for (RFC 6066 §3).
    public var serverName: String?
    /// The application protocol agreed on (RFC 7301).
    public var alpn: String?
    /// The certificates the peer presented, DER, leaf first, in the order and number presented.
    public var chain: [[UInt8]]
    /// The moment at which they had to be valid, in seconds since 1970; nil: nobody says.
    public var checkedAt: Int?
    /// What checking the chain found.
    public var verification: ChainVerification
    /// The trusted root that the chain led to, whatever else is wrong with it, DER; nil: it led to none.
    public var anchor: [UInt8]?
    /// Whether the leaf carries the name asked about in `TLSVerification`, by its subject alternative names alone (no
    /// common name, no partial wildcards: RFC 6125 §6.4); nil: no name was asked about, or no certificate presented.
    public var nameMatched: Bool?
    /// What holding the server against TLSA records found; nil: there were none to hold it against. Independent of
    /// `verification`, which is about trusted roots.
    public var dane: DANEOutcome?
    /// The OCSP response that came with the certificate, DER, of at most `StapledStatus.largest` octets; nil: none.
    public var staple: [UInt8]?
    /// What that response says; nil: there is none. Independent of `verification`.
    public var stapled: StapledStatus?
    /// Whether the leaf demands a staple (RFC 7633).
    public var mustStaple = false

    /// Whether the presented leaf carries `name` (a host name or an IP address), by the same rules as `nameMatched`.
    public func leafMatches(name: String) -> Bool {
        guard let leaf = chain.first, let certificate = try? Certificate(der: leaf) else { return false }
        return certificate.matches(name: name)
    }
}

extension PeerEvidence {
    /// What a handshake showed, put together again from a record and from judging its chain anew.
    public init(
        version: TLSVersion, cipherSuite: String, isForwardSecret: Bool, cipherBits: Int,
        keyExchangeGroup: String?, signatureAlgorithm: String?, serverName: String?, chain: [[UInt8]],
        staple: [UInt8]?, checked: ChainJudgement
    ) {
        self.init(
            version: version, cipherSuite: cipherSuite, isForwardSecret: isForwardSecret,
            cipherBits: cipherBits,
            keyExchangeGroup: keyExchangeGroup, signatureAlgorithm: signatureAlgorithm,
            serverName: serverName, alpn: nil,
            chain: chain, checkedAt: checked.time, verification: checked.verification, anchor: nil,
            nameMatched: checked.nameMatched,
            dane: checked.dane, staple: staple, stapled: checked.stapled, mustStaple: checked.mustStaple)
    }
}

/// What a client checks of the server's certificate, and whether that may fail the handshake.
public enum TLSVerification: Sendable, Equatable {
    /// The certificate never fails the handshake; chain and name are checked and the outcome is in the evidence.
    /// - name: the host name or IP address to look for in the leaf; nil: none.
    /// - dane: TLSA records to hold the server against; the outcome is in the evidence too.
    case record(name: String?, dane: DANEReference? = nil)
    /// The handshake fails unless the chain is valid and the leaf carries this host name or IP address.
    case require(name: String)
}

/// The user inbound event that `TLSHandler` fires when its handshake is complete, before any byte of content.
public struct TLSHandshakeCompleted: Sendable {
    /// What the handshake proved.
    public var evidence: PeerEvidence
}
