// What MTA-STS says of a recipient domain when a message goes (RFC 8461), and what that makes of one of its hosts. As with TLSA
// records these are facts that nothing may mix up: a policy, provably none, one that is published and cannot be had, or
// nobody knows.
import DNS
import Foundation
import Policy

/// A policy that is in force, with what it came from.
public struct MTASTSInForce: Sendable, Hashable {
    /// The id under which it is published.
    public let id: String
    /// When it was fetched.
    public let fetchedAt: Date
    /// What it says.
    let policy: MTASTSPolicy

    init(_ held: MTASTSCacheEntry.Held) {
        (id, fetchedAt, policy) = (held.id, held.fetchedAt, held.policy)
    }

    /// Whether hosts that fail get nothing; else they are only reported.
    public var isEnforced: Bool { policy.mode == .enforce }
}

/// What MTA-STS said of a recipient domain, and what that was read from.
public struct MTASTSStanding: Sendable, Hashable {
    /// What it said.
    public let status: MTASTSStatus
    /// The answer for the record at `_mta-sts`; nil: it was not asked for, or there was no answer.
    let record: DNSAnswer?
    /// When, in milliseconds since 1970; nil: it was not asked for.
    let askedAt: Int64?

    init(_ status: MTASTSStatus, record: DNSAnswer? = nil, askedAt: Date? = nil) {
        (self.status, self.record) = (status, record)
        self.askedAt = askedAt.map { Int64($0.timeIntervalSince1970 * 1000) }
    }
}

/// Whether the hosts of a recipient domain are to be held against an MTA-STS policy, and which.
public enum MTASTSStatus: Sendable, Hashable {
    /// It was not looked for: nothing follows.
    case unasked
    /// An operator's static route stands in for the MX records that a policy is about.
    case bypassed
    /// This policy, `enforce` or `testing`.
    case policy(MTASTSInForce)
    /// None is published, or the one that is has mode `none`.
    case absent
    /// One is published, was never held here, and cannot be had: `sts-policy-fetch-error`, `sts-policy-invalid` or
    /// `sts-webpki-invalid`. RFC 8461 §5.1: as if there were none; it is reported.
    case unavailable(MTASTSUnavailable)
    /// Nobody knows whether there is one: its record could not be looked up, or what is held could not be read.
    case unknown(MTASTSUnknown)

    /// Whether a session that was judged under the other may go on under this: the same policy, whenever it was fetched.
    public func isSame(as other: MTASTSStatus) -> Bool {
        switch (self, other) {
        case (.policy(let one), .policy(let two)): one.id == two.id && one.policy == two.policy
        case (.unavailable(let one), .unavailable(let two)): one.reason == two.reason
        default: self == other
        }
    }
}

/// Why a policy that is published cannot be had.
public struct MTASTSUnavailable: Sendable, Hashable {
    /// The type of the failure (RFC 8460 §4.3.2.1).
    public let reason: ReasonCode
    /// What failed, in words that name hosts and no persons.
    public let detail: String
}

/// Why nobody knows whether there is a policy.
public struct MTASTSUnknown: Sendable, Hashable {
    /// Whether the answer for the record was wrongly signed.
    public let isBogus: Bool
    /// What failed, in words that name domains and no persons.
    public let detail: String
}

extension MTASTSStatus {
    /// What it makes of one host.
    ///
    /// - Parameters:
    ///   - host: the name of the MX host, which is never an alias' end (RFC 8461 §4.1).
    ///   - name: how that name became known.
    func findings(on host: String, _ name: NameProvenance) -> Set<Finding> {
        switch self {
        case .unasked: return []
        case .bypassed: return [.stsBypassed]
        case .absent: return [.stsAbsent]
        case .unavailable(let unavailable):
            switch unavailable.reason {
            case .stsWebPKIInvalid: return [.stsWebPKIInvalid]
            case .stsPolicyInvalid: return [.stsPolicyInvalid]
            default: return [.stsPolicyFetchError]
            }
        case .unknown(let unknown): return [unknown.isBogus ? .stsBogus : .stsLookupFailed]
        case .policy(let inForce):
            var found: Set<Finding> = [inForce.isEnforced ? .stsEnforce : .stsTesting]
            if !inForce.names(host) {
                found.insert(.stsMXMismatch)
            } else if inForce.isEnforced, name == .unproven {
                found.insert(.nameProvenBySTS)
            }
            return found
        }
    }

    /// What is wrong with the policy, or with a host by it, in words; nil: nothing.
    func complaint(about host: String) -> String? {
        switch self {
        case .unknown(let unknown): return unknown.detail
        case .unavailable(let unavailable): return unavailable.detail
        case .policy(let inForce) where !inForce.names(host):
            let patterns = inForce.policy.mx.prefix(5).map(\.description).joined(separator: ", ")
            return "\(host) is not in the MTA-STS policy \(inForce.id) (mx: \(patterns))"
        case .unasked, .bypassed, .policy, .absent: return nil
        }
    }

    /// The id of the policy in force.
    var policyID: String? { if case .policy(let inForce) = self { inForce.id } else { nil } }
}

extension MTASTSInForce {
    /// Whether the policy names the host.
    fileprivate func names(_ host: String) -> Bool {
        (try? DomainName(host)).map(policy.matches) ?? false
    }
}
