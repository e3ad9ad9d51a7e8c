// What somebody between a worker and a recipient can do, and what must come of it: one row each.

import Foundation
import Lab
import NIOCore
import TLS

@testable import Delivery

/// One attack on mail to one domain that was served well a moment ago.
struct Attack: Sendable {
    /// What the domain publishes.
    enum World: String, Sendable {
        /// A signed zone with a TLSA record of a self-signed certificate.
        case dane
        /// An unsigned zone, a trusted certificate.
        case plain
        /// The same with an enforced MTA-STS policy.
        case sts
    }

    /// A host of the attacker's.
    enum Impostor: Sendable {
        /// Its certificate is self-signed.
        case selfSigned
        /// Its certificate is trusted, for its own name.
        case trustedElsewhere
        /// TLS 1.0 and 1.1, self-signed.
        case old
    }

    /// The host of the MTA-STS policy.
    enum PolicyHostFate: Sendable {
        /// It answers as before.
        case there
        /// It does not answer any more.
        case away
        /// Another stands in its place, with a certificate of its own and a policy that names the attacker's host.
        case swapped
    }

    let what: String
    let world: World
    /// Whether mail was delivered, and a policy fetched, before the attack.
    var wasServed = true
    /// Whether the host was scanned just before.
    var wasScanned = false
    /// What is done to connections; the address is the impostor's.
    var connections: @Sendable (SocketAddress) -> Interception = { _ in .none }
    /// What is done to answers, by name and type; `{D}` is the domain, `{P}` the port.
    var answers: [(name: String, type: UInt16, forgery: @Sendable (Site) -> DNSForgery)] = []
    var impostor: Impostor?
    /// Whether the true host takes old versions too.
    var takesOldVersions = false
    var policyHost = PolicyHostFate.there
    /// `kind reason` by ruleset.
    let ends: [String: String]
    /// Rulesets under which the content reaches the attacker, because they ask for no more: said here, so that nobody is surprised.
    var byDesign: Set<String> = []

    /// Where a row's hosts are.
    struct Site: Sendable {
        let number: Int
        var domain: String { "row\(number).test" }
        /// Of the attacker.
        var evil: String { "mx\(number).evil.test" }
        var front: String { "127.0.10.\(number + 1)" }
        var host: String { "127.0.11.\(number + 1)" }
        var impostor: String { "127.0.12.\(number + 1)" }
        var web: String { "127.0.13.\(number + 1)" }
    }

    /// The same end under every ruleset.
    static func all(_ end: String) -> [String: String] {
        ["opportunistic": end, "secure": end, "nta7516": end]
    }

    static func ends(_ opportunistic: String, _ secure: String, _ nta7516: String = "refused dane-required")
        -> [String: String]
    { ["opportunistic": opportunistic, "secure": secure, "nta7516": nta7516] }
}

/// ClientHellos read and altered.
enum HelloSurgery {
    /// Where the data of an extension are in a record of a ClientHello (RFC 8446 §4.1.2); nil: it has none.
    static func range(of wanted: Int, in record: [UInt8]) -> Range<Int>? {
        var position = 5 + 4 + 2 + 32
        func number(_ width: Int) -> Int {
            guard position + width <= record.count else { return 0 }
            defer { position += width }
            return record[position..<position + width].reduce(0) { $0 << 8 | Int($1) }
        }
        position += number(1)
        position += number(2)
        position += number(1)
        _ = number(2)
        while position + 4 <= record.count {
            let (type, length) = (number(2), number(2))
            guard position + length <= record.count else { return nil }
            if type == wanted { return position..<position + length }
            position += length
        }
        return nil
    }

    /// The hello without some versions: a number that nobody knows stands in for each.
    static func without(_ versions: Set<UInt8>, _ record: [UInt8]) -> [UInt8] {
        var altered = record
        guard let range = range(of: 43, in: record) else { return record }
        for place in stride(from: range.lowerBound + 1, to: range.upperBound - 1, by: 2)
        where altered[place] == 3 && versions.contains(altered[place + 1]) {
            (altered[place], altered[place + 1]) = (0x7f, 0x1c)
        }
        return altered
    }

    /// Whether TLS 1.3 is on offer.
    static func offersTLS13(_ record: [UInt8]) -> Bool {
        guard let range = range(of: 43, in: record) else { return false }
        return stride(from: range.lowerBound + 1, to: range.upperBound - 1, by: 2).contains {
            record[$0] == 3 && record[$0 + 1] == 4
        }
    }

    /// Whether an earlier session, or data before the end of the handshake, is on offer: `session_ticket` with a ticket,
    /// `pre_shared_key` or `early_data`.
    static func offersResumption(_ record: [UInt8]) -> Bool {
        range(of: 35, in: record).map { !$0.isEmpty } ?? false || range(of: 41, in: record) != nil
            || range(of: 42, in: record) != nil
    }
}
