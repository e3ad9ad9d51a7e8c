// What one judgement of one connection rested on: enough to make it again without a network, at any later time.

import DNS
import Foundation
import Policy
import TLS

/// One judgement with everything that led to it.
public struct Judgement: Sendable, Hashable, Codable {
    /// The format of this record; readers refuse what they do not know. Format 1 had neither `routedAt` nor, of the MTA-STS policy,
    /// when and with which answer it was asked for.
    public static let format = 2

    /// A static route to a host (`delivery.routes`).
    public struct ConfiguredHost: Sendable, Hashable, Codable {
        /// The host as configured.
        public let host: String
        /// The port as configured.
        public let port: Int
    }

    /// What a handshake showed; certificates by their SHA-256 in hexadecimal.
    public struct Connection: Sendable, Hashable, Codable {
        /// `TLSv1.3`.
        public let version: String
        /// The suite by its IANA name.
        public let cipherSuite: String
        /// The strength of its key in bits.
        public let cipherBits: Int
        /// Whether the key exchange was ephemeral.
        public let isForwardSecret: Bool
        /// The group of the key exchange.
        public let keyExchangeGroup: String?
        /// How the server signed the handshake.
        public let signatureAlgorithm: String?
        /// The name asked for by SNI.
        public let serverName: String?
        /// The certificates as presented, leaf first.
        public let chain: [String]
        /// The trusted root that they led to.
        public let anchor: String?
        /// The OCSP response that came with them, DER.
        public let staple: Data?
    }

    /// `Judgement.format`.
    public let format: Int
    /// When, in milliseconds since 1970.
    public let madeAt: Int64
    /// The recipient domain, in lower-case A-labels.
    public let domain: String
    /// The static route that was taken; nil: DNS named the host.
    public let configured: ConfiguredHost?
    /// The port where configuration has one for all hosts.
    public let port: Int
    /// The lookups that named host, address and TLSA records; none that was about another host of the domain.
    public let lookups: [RecordedLookup]
    /// When they were made, in milliseconds since 1970: an NTA 7516 record counts by the month of that moment.
    public let routedAt: Int64?
    /// What MTA-STS said of the domain.
    public let policy: RecordedPolicy
    /// The host.
    public let host: String
    /// Its address, in text.
    public let address: String
    /// By which configured network the address is outside the European Economic Area; nil: none says so.
    public let exclusion: String?
    /// What the handshake showed; nil: there was no TLS.
    public let connection: Connection?
    /// Why there was none.
    public let absence: TLSAbsence?
    /// The scan of the host that the verdict rests on too; nil: it rests on none.
    public let scan: RecordedScan?
    /// The ruleset, whole.
    public let ruleset: Ruleset
    /// What was found.
    public let findings: HostFindings
    /// What followed.
    public let verdict: Verdict

    /// The canonical octets, and their digest: SHA-256 in hexadecimal.
    public func encoded() throws -> (octets: [UInt8], digest: String) {
        let octets = try CanonicalJSON.encode(self)
        return (octets, CanonicalJSON.digest(octets))
    }
}

/// A lookup as it was answered.
public struct RecordedLookup: Sendable, Hashable, Codable {
    /// The name that was asked for.
    public let name: DomainName
    /// The type, by its number.
    public let type: UInt16
    /// What validation said at the time.
    public let security: DNSSecurity
    /// The TTL at the time, in seconds.
    public let ttl: UInt32
    /// The message as it came, RRSIG records included.
    public let packet: Data

    /// Writes an answer down.
    init(_ answer: DNSAnswer) {
        name = answer.name
        type = answer.type.rawValue
        security = answer.security
        ttl = answer.ttl
        packet = Data(answer.packet)
    }

    /// The answer, read from the message again.
    func answer() throws -> DNSAnswer {
        let type = DNSRecordType(rawValue: type)
        guard let read = try DNSMessage(Array(packet)).outcome(of: name, type) else {
            throw EvidenceError(.contradicted, "the message of \(name) \(type) says nothing of it")
        }
        return DNSAnswer(
            name: name, type: type, outcome: read.outcome, canonicalName: read.canonicalName,
            security: security, ttl: ttl, packet: Array(packet))
    }
}

extension TLSAbsence: Codable {
    private enum CodingKeys: String, CodingKey { case kind, reason }

    /// Reads `{"kind": …, "reason": …}`.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        switch try container.decode(String.self, forKey: .kind) {
        case "not-offered": self = .notOffered
        case "rejected": self = .rejected
        case "no-common-version": self = .noCommonVersion
        case "handshake-failed":
            self = .handshakeFailed(try container.decode(String.self, forKey: .reason))
        case let other:
            throw DecodingError.dataCorruptedError(
                forKey: .kind, in: container, debugDescription: "unknown absence \(other)")
        }
    }

    /// Writes `{"kind": …, "reason": …}`.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        switch self {
        case .notOffered: try container.encode("not-offered", forKey: .kind)
        case .rejected: try container.encode("rejected", forKey: .kind)
        case .noCommonVersion: try container.encode("no-common-version", forKey: .kind)
        case .handshakeFailed(let reason):
            try container.encode("handshake-failed", forKey: .kind)
            try container.encode(reason, forKey: .reason)
        }
    }
}
