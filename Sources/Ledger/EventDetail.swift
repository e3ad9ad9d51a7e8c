// What lies behind an event: the evidence it rests on. Sealed under the message's metadata key as field `event/<id>`, so it may
// name hosts and quote replies. Workers write it, the api opens it, `zegel trace` shows it.
//
// JSON with snake_case names; absent fields are left out. A worker writes two of these a message, so the writer is made by
// hand: Foundation's encoder alone would cost a third of the worker's budget.

import Foundation

/// The details of one event.
public struct EventDetail: Sendable, Hashable, Codable {
    /// The attempt, from 1.
    public var attempt: Int32?
    /// The recipient host by name.
    public var remoteHost: String?
    /// Its address, `192.0.2.1` or `2001:db8::1`.
    public var remoteAddress: String?
    /// The host's reply, one line, as it came but for control characters.
    public var reply: String?
    /// The enhanced status (RFC 3463): the remote one where a reply is quoted, else ours.
    public var status: String?
    /// `TLSv1.3`; absent without TLS.
    public var tlsVersion: String?
    /// The suite by its IANA name.
    public var cipherSuite: String?
    /// The group of the key exchange.
    public var keyExchangeGroup: String?
    /// SHA-256 of the leaf certificate, hexadecimal.
    public var certificateDigest: String?
    /// The TLSA base domain whose records the host was held against (RFC 7672 §2.2.3); absent without DANE.
    public var tlsaBaseDomain: String?
    /// The TLSA record that matched, as in a zone file.
    public var tlsaRecord: String?
    /// `deliver`, `defer` or `refuse`.
    public var verdict: String?
    /// The ruleset's name.
    public var ruleset: String?
    /// The ruleset's version.
    public var rulesetVersion: Int?
    /// The findings on the host, by name.
    public var findings: [String]?
    /// The rest in words: what the library, the resolver or the system said.
    public var explanation: String?
    /// When it is tried again (RFC 3339, UTC).
    public var nextAttempt: String?
    /// The notification that went out, or the message that this reports on.
    public var relatedMessage: UUID?
    /// The message may have reached the recipient before.
    public var possibleDuplicate: Bool?
    /// The judgement that it rests on: SHA-256, hexadecimal.
    public var judgement: String?
    /// The digest of the evidence of this delivery or refusal: SHA-256, hexadecimal.
    public var evidenceDigest: String?

    /// The names in JSON.
    public enum CodingKeys: String, CodingKey {
        case attempt, reply, status, verdict, ruleset, findings, explanation, judgement
        case remoteHost = "remote_host"
        case remoteAddress = "remote_address"
        case tlsVersion = "tls_version"
        case cipherSuite = "cipher_suite"
        case keyExchangeGroup = "key_exchange_group"
        case certificateDigest = "certificate_digest"
        case tlsaBaseDomain = "tlsa_base_domain"
        case tlsaRecord = "tlsa_record"
        case rulesetVersion = "ruleset_version"
        case nextAttempt = "next_attempt"
        case relatedMessage = "related_message"
        case possibleDuplicate = "possible_duplicate"
        case evidenceDigest = "evidence_digest"
    }

    /// No details.
    public init() {}

    /// Reads what ``encoded()`` wrote; fields that this version does not know are passed over.
    public init(decoding bytes: [UInt8]) throws {
        self = try JSONDecoder().decode(EventDetail.self, from: Data(bytes))
    }

    /// The JSON object.
    public func encoded() -> [UInt8] {
        var writer = DetailWriter()
        if let attempt { writer.number(.attempt, Int(attempt)) }
        writer.text(.remoteHost, remoteHost)
        writer.text(.remoteAddress, remoteAddress)
        writer.text(.reply, reply)
        writer.text(.status, status)
        writer.text(.tlsVersion, tlsVersion)
        writer.text(.cipherSuite, cipherSuite)
        writer.text(.keyExchangeGroup, keyExchangeGroup)
        writer.text(.certificateDigest, certificateDigest)
        writer.text(.tlsaBaseDomain, tlsaBaseDomain)
        writer.text(.tlsaRecord, tlsaRecord)
        writer.text(.verdict, verdict)
        writer.text(.ruleset, ruleset)
        if let rulesetVersion { writer.number(.rulesetVersion, rulesetVersion) }
        if let findings { writer.list(.findings, findings) }
        writer.text(.explanation, explanation)
        writer.text(.nextAttempt, nextAttempt)
        writer.text(.relatedMessage, relatedMessage?.uuidString)
        if let possibleDuplicate { writer.bool(.possibleDuplicate, possibleDuplicate) }
        writer.text(.judgement, judgement)
        writer.text(.evidenceDigest, evidenceDigest)
        return writer.finish()
    }
}

/// Writes one flat JSON object.
private struct DetailWriter {
    private var bytes: [UInt8]

    init() {
        bytes = []
        bytes.reserveCapacity(640)
        bytes.append(UInt8(ascii: "{"))
    }

    private mutating func key(_ key: EventDetail.CodingKeys) {
        if bytes.count > 1 { bytes.append(UInt8(ascii: ",")) }
        bytes.append(UInt8(ascii: "\""))
        bytes.append(contentsOf: key.rawValue.utf8)
        bytes.append(UInt8(ascii: "\""))
        bytes.append(UInt8(ascii: ":"))
    }

    mutating func text(_ name: EventDetail.CodingKeys, _ value: String?) {
        guard let value else { return }
        key(name)
        string(value)
    }

    mutating func number(_ name: EventDetail.CodingKeys, _ value: Int) {
        key(name)
        bytes.append(contentsOf: String(value).utf8)
    }

    mutating func bool(_ name: EventDetail.CodingKeys, _ value: Bool) {
        key(name)
        bytes.append(contentsOf: (value ? "true" : "false").utf8)
    }

    mutating func list(_ name: EventDetail.CodingKeys, _ values: [String]) {
        key(name)
        bytes.append(UInt8(ascii: "["))
        for (index, value) in values.enumerated() {
            if index > 0 { bytes.append(UInt8(ascii: ",")) }
            string(value)
        }
        bytes.append(UInt8(ascii: "]"))
    }

    private mutating func string(_ value: String) {
        bytes.append(UInt8(ascii: "\""))
        for byte in value.utf8 {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"):
                bytes.append(UInt8(ascii: "\\"))
                bytes.append(byte)
            case 0..<0x20:
                let hex = Array("0123456789abcdef".utf8)
                bytes.append(contentsOf: "\\u00".utf8)
                bytes.append(hex[Int(byte >> 4)])
                bytes.append(hex[Int(byte & 15)])
            default: bytes.append(byte)
            }
        }
        bytes.append(UInt8(ascii: "\""))
    }

    mutating func finish() -> [UInt8] {
        bytes.append(UInt8(ascii: "}"))
        return bytes
    }
}
