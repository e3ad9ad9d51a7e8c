// Which MTA-STS policy is in force for a domain, and when it is fetched anew (RFC 8461 §3.1, §3.3, §5.1, §10.2).
//
// The whole strength of MTA-STS is that a policy seen once is remembered: whoever can forge DNS or block a web server
// later must gain nothing by it. Hence
// - an unexpired policy stays in force when its record is gone, when its lookup fails and when fetching fails;
// - only a policy with mode `none`, fetched over WebPKI, ends it before its time;
// - it is fetched anew before it expires, and also while the lookup of its record fails, so that blocking DNS
//   alone does not outlast it. A record that is provably gone starts no fetch (§3.1: no discovery);
// - a lookup that failed with no policy at hand leaves unknown whether there is one: nothing follows from it.
//
// The entry belongs to one policy domain, the recipient's own, never that of an MX host or CNAME target (§3.4, §8.2):
// asked for any other domain it holds nothing.
import DNS
import Foundation
import Policy

/// What is remembered of one policy domain.
struct MTASTSCacheEntry: Sendable, Hashable {
    /// A policy, and from when it counts.
    struct Held: Sendable, Hashable {
        /// The id under which it was published.
        var id: String
        /// The policy.
        var policy: MTASTSPolicy
        /// When it was fetched.
        var fetchedAt: Date

        /// When its time is over: after its `max_age`, and not before it may be fetched again.
        var expiresAt: Date { fetchedAt + max(policy.maxAge.seconds, MTASTSCacheEntry.retryInterval) }

        /// Whether its time is over.
        func isExpired(at now: Date) -> Bool { now >= expiresAt }
    }

    /// A fetch that failed.
    struct Failure: Sendable, Hashable {
        /// The id for which it was tried; nil where the record was not known.
        var id: String?
        /// When.
        var at: Date
        /// Why.
        var reason: ReasonCode = .stsPolicyFetchError
        /// The same in words.
        var detail = ""
    }

    /// What the lookup of the record came to.
    enum Lookup: Sendable, Hashable {
        /// A record with this id.
        case id(String)
        /// An answer without a valid record.
        case absent
        /// No answer: nobody knows.
        case failed
    }

    /// What a fetch came to.
    enum Fetch: Sendable, Hashable {
        /// None was made.
        case none
        /// A valid policy.
        case policy(MTASTSPolicy)
        /// No policy: `sts-policy-fetch-error`, `sts-webpki-invalid` or `sts-policy-invalid` (RFC 8460 §4.3.2.1).
        case failed(ReasonCode, String)
    }

    /// Whether to fetch.
    enum Demand: Sendable, Hashable {
        /// No.
        case no
        /// Before the message goes: it depends on it.
        case now
        /// Beside the delivery, under the policy that is in force.
        case ahead
    }

    /// What holds for a message.
    enum InForce: Sendable, Hashable {
        /// This policy, whose mode is `enforce` or `testing`.
        case policy(Held)
        /// None. With a reason where one is published and could not be had, which is reported.
        case nothing(MTASTSUnavailable?)
        /// Nobody knows whether there is one: the ruleset says what that is worth, and it is never an absence.
        case unknown
    }

    /// A policy older than this is fetched anew, or one past half its life if that is sooner (§10.2: daily).
    static let refreshInterval: TimeInterval = 86_400
    /// After a fetch, whatever came of it, the domain is left alone for this long (§3.3: five minutes or longer).
    static let retryInterval: TimeInterval = 300

    /// Whose policy it is.
    let policyDomain: DomainName
    /// The policy that was fetched last.
    private(set) var held: Held?
    /// The last fetch, if it failed.
    private(set) var failure: Failure?

    /// Takes what was stored; a domain never seen has nothing.
    init(policyDomain: DomainName, held: Held? = nil, failure: Failure? = nil) {
        (self.policyDomain, self.held, self.failure) = (policyDomain, held, failure)
    }

    /// Takes up what was stored, where it was fetched later than what is held.
    mutating func take(_ stored: Held) {
        if let held, held.fetchedAt >= stored.fetchedAt { return }
        held = stored
        if let failure, failure.at <= stored.fetchedAt { self.failure = nil }
    }

    /// Whether a fetch is due after the record was looked up.
    func demand(for domain: DomainName, _ lookup: Lookup, now: Date) -> Demand {
        guard domain == policyDomain else { return .no }
        let id: String?
        switch lookup {
        case .absent: return .no
        case .failed: id = nil
        case .id(let published): id = published
        }
        let unexpired = unexpired(at: now)
        // Without a policy and without a record there is nothing to go by.
        if unexpired == nil, id == nil { return .no }
        for tried in [failure?.at, held?.fetchedAt].compactMap({ $0 })
        where abs(now.timeIntervalSince(tried)) < Self.retryInterval {
            return .no
        }
        guard let unexpired, id == nil || unexpired.id == id else { return .now }
        let age = now.timeIntervalSince(unexpired.fetchedAt)
        return age >= min(Self.refreshInterval, unexpired.policy.maxAge.seconds / 2) ? .ahead : .no
    }

    /// What is in force, and takes up what was fetched.
    ///
    /// A fetched policy holds for the message at hand, and until it may be fetched again, even when its `max_age` is 0.
    mutating func settle(for domain: DomainName, _ lookup: Lookup, _ fetch: Fetch, now: Date) -> InForce {
        guard domain == policyDomain else { return .unknown }
        let before = unexpired(at: now)
        var published: String?
        if case .id(let id) = lookup { published = id }
        var why: MTASTSUnavailable?
        switch fetch {
        case .policy(let policy):
            // Fetched for an id, or anew for the one that is held. For anything else there was nothing to fetch.
            guard let id = published ?? before?.id else { break }
            let fetched = Held(id: id, policy: policy, fetchedAt: now)
            (held, failure) = (fetched, nil)
            return Self.inForce(fetched)
        case .failed(let reason, let detail):
            failure = Failure(id: published, at: now, reason: reason, detail: detail)
            why = MTASTSUnavailable(reason: reason, detail: detail)
        case .none:
            // Left alone since it failed a moment ago: still published, still not to be had.
            if let failure, published != nil {
                why = MTASTSUnavailable(reason: failure.reason, detail: failure.detail)
            }
        }
        if let before { return Self.inForce(before) }
        switch lookup {
        case .failed: return .unknown
        case .absent: return .nothing(nil)
        case .id: return .nothing(why)
        }
    }

    private func unexpired(at now: Date) -> Held? { held.flatMap { $0.isExpired(at: now) ? nil : $0 } }

    private static func inForce(_ held: Held) -> InForce {
        held.policy.mode == .none ? .nothing(nil) : .policy(held)
    }
}

extension Duration {
    /// Whole and broken seconds, for sums with dates.
    fileprivate var seconds: TimeInterval {
        TimeInterval(components.seconds) + TimeInterval(components.attoseconds) / 1e18
    }
}
