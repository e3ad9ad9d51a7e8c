// A resolver that answers from a table, so that a routing rule can be read as one row: what DNS says, what follows.

import DNS
import Foundation
import Synchronization

/// Answers by name and type; what is not in the table does not exist.
public final class DNSTable: DNSResolving {
    /// What a lookup ends in.
    public enum Entry: Sendable {
        /// Records of the type that is asked for.
        case records([DNSRecord], DNSSecurity = .insecure, canonical: String? = nil, ttl: UInt32 = 300)
        /// The name is there, the type is not.
        case nodata(DNSSecurity = .insecure, canonical: String? = nil)
        /// The name does not exist.
        case nxdomain(DNSSecurity = .insecure)
        /// There is no answer.
        case failure(DNSFailure.Code)
    }

    private let entries: Mutex<[String: Entry]>
    private let asked = Mutex<[String]>([])
    private let delay: Duration

    /// - entries: by `name TYPE`.
    /// - delay: how long each answer takes.
    public init(_ entries: [String: Entry], delay: Duration = .zero) {
        self.entries = Mutex(entries)
        self.delay = delay
    }

    /// The questions so far, as `name TYPE`.
    public var questions: [String] { asked.withLock { $0 } }

    /// Changes what it answers from now on; nil takes an entry away.
    public func change(_ question: String, to entry: Entry?) { entries.withLock { $0[question] = entry } }

    /// Answers from the table.
    public func resolve(_ name: DomainName, _ type: DNSRecordType) async throws(DNSFailure) -> DNSAnswer {
        let question = "\(name) \(type)"
        asked.withLock { $0.append(question) }
        if delay > .zero { try? await Task.sleep(for: delay) }
        let entries = entries.withLock { $0 }
        let known = entries.keys.contains { $0.hasPrefix("\(name) ") }
        switch entries[question] ?? (known ? .nodata() : .nxdomain()) {
        case .records(let records, let security, let canonical, let ttl):
            let end = canonical.flatMap { try? DomainName($0) }
            return DNSAnswer(
                name: name, type: type, outcome: .records(records), canonicalName: end, security: security,
                ttl: ttl, packet: DNSPacket.response(name, type, records, canonical: end, ttl: ttl))
        case .nodata(let security, let canonical):
            let end = canonical.flatMap { try? DomainName($0) }
            return DNSAnswer(
                name: name, type: type, outcome: .nodata, canonicalName: end, security: security, ttl: 60,
                packet: DNSPacket.response(name, type, [], canonical: end, ttl: 60))
        case .nxdomain(let security):
            return DNSAnswer(
                name: name, type: type, outcome: .nxdomain, security: security, ttl: 60,
                packet: DNSPacket.response(name, type, [], exists: false, ttl: 60))
        case .failure(let code): throw DNSFailure(code, question)
        }
    }
}

extension DNSTable.Entry {
    /// MX records as `preference host`.
    public static func mx(
        _ records: String..., security: DNSSecurity = .insecure, canonical: String? = nil, ttl: UInt32 = 300
    )
        -> DNSTable.Entry
    {
        let parsed = records.compactMap { text -> DNSRecord? in
            let parts = text.split(separator: " ")
            guard parts.count == 2, let preference = UInt16(parts[0]),
                let name = try? DomainName(String(parts[1]))
            else { return nil }
            return .mx(preference: preference, exchange: name)
        }
        return .records(parsed, security, canonical: canonical, ttl: ttl)
    }

    /// Addresses of either family.
    public static func addresses(
        _ texts: String..., security: DNSSecurity = .insecure, canonical: String? = nil, ttl: UInt32 = 300
    ) -> DNSTable.Entry {
        .records(
            texts.compactMap { IPAddress($0).map { .address($0) } }, security, canonical: canonical, ttl: ttl)
    }
}

/// A time that a test sets.
public final class Elapsed: Sendable {
    private let duration = Mutex(Duration.zero)
    /// Since the start of the test.
    public var value: Duration { duration.withLock { $0 } }
    /// No time has passed yet.
    public init() {}
    /// Sets it.
    public func set(_ value: Duration) { duration.withLock { $0 = value } }
}
