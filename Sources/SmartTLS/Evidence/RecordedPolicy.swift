// What MTA-STS said of a domain when a host of it was judged, and the answer that announced its policy, in a form that can be read
// again.

import DNS
import Foundation
import Policy

/// The state of a domain's MTA-STS policy at the time of a judgement.
public struct RecordedPolicy: Sendable, Hashable, Codable {
    /// The kinds of states.
    public enum State: String, Sendable, Hashable, Codable {
        /// It was not looked for.
        case unasked
        /// A static route stood in for the MX records that it is about.
        case bypassed
        /// A policy was in force.
        case policy
        /// None was published, or one of mode `none`.
        case absent
        /// One was published and could not be had.
        case unavailable
        /// Nobody knew.
        case unknown
    }

    /// Which it was.
    public let state: State
    /// The id of the policy in force.
    public let id: String?
    /// The policy in its shortest form.
    public let text: String?
    /// When it was fetched, in milliseconds since 1970.
    public let fetchedAt: Int64?
    /// Why it could not be had.
    public let reason: ReasonCode?
    /// The same, or why nobody knew, in words.
    public let detail: String?
    /// Whether its record was wrongly signed.
    public let isBogus: Bool?
    /// When it was asked for, in milliseconds since 1970; nil: it was not, or the record is of format 1.
    public let askedAt: Int64?
    /// The answer for `_mta-sts.<domain>`; nil: it was not asked for, there was none, or the record is of format 1.
    public let lookup: RecordedLookup?

    /// Writes down what was said.
    init(_ standing: MTASTSStanding) {
        let status = standing.status
        askedAt = standing.askedAt
        lookup = standing.record.map(RecordedLookup.init)
        var inForce: MTASTSInForce?
        var why: MTASTSUnavailable?
        var unknown: MTASTSUnknown?
        switch status {
        case .unasked: state = .unasked
        case .bypassed: state = .bypassed
        case .absent: state = .absent
        case .policy(let policy): (state, inForce) = (.policy, policy)
        case .unavailable(let unavailable): (state, why) = (.unavailable, unavailable)
        case .unknown(let reason): (state, unknown) = (.unknown, reason)
        }
        id = inForce?.id
        text = inForce.map { String(decoding: $0.policy.body, as: UTF8.self) }
        fetchedAt = inForce.map { Int64($0.fetchedAt.timeIntervalSince1970 * 1000) }
        reason = why?.reason
        (detail, isBogus) = (unknown?.detail ?? why?.detail, unknown?.isBogus)
    }

    /// Whether somebody asked for the policy, so that it is known when.
    var isAsked: Bool { state != .unasked && state != .bypassed }

    /// The id that the domain's record announced; nil: none, or there was no answer.
    ///
    /// - Throws: `EvidenceError` where the recorded answer is none.
    func announcedID() throws(EvidenceError) -> String? {
        guard let lookup else { return nil }
        do {
            guard case .record(let record) = MTASTSRecord.read(try lookup.answer().records) else {
                return nil
            }
            return record.id
        } catch let error as EvidenceError {
            throw error
        } catch {
            throw EvidenceError(.unreadable, "\(error)")
        }
    }

    /// The status again, as it was at a time. A policy that is held may be in force under another id than the one announced,
    /// and without one (RFC 8461 §5.1).
    ///
    /// - Parameter time: when it was asked for, in milliseconds since 1970.
    /// - Throws: `EvidenceError` where it is none, or its policy was not in force then.
    func status(of domain: String, at time: Int64) throws(EvidenceError) -> MTASTSStatus {
        if let lookup {
            let name = (try? DomainName(domain))?.below("_mta-sts")
            guard isAsked, lookup.name == name, lookup.type == DNSRecordType.txt.rawValue else {
                throw EvidenceError(.contradicted, "an answer that is not that of the MTA-STS record")
            }
        }
        let announced = try announcedID()
        switch state {
        case .unasked: return .unasked
        case .bypassed: return .bypassed
        case .absent: return .absent
        case .unavailable:
            guard let reason, let detail else {
                throw EvidenceError(.unreadable, "a policy is missing without a reason")
            }
            guard announced != nil || askedAt == nil else {
                throw EvidenceError(.contradicted, "no MTA-STS record announced a policy")
            }
            return .unavailable(MTASTSUnavailable(reason: reason, detail: detail))
        case .unknown:
            guard let detail, let isBogus else {
                throw EvidenceError(.unreadable, "a policy is unknown without a reason")
            }
            return .unknown(MTASTSUnknown(isBogus: isBogus, detail: detail))
        case .policy:
            guard let id, let text, let fetchedAt, let policy = try? MTASTSPolicy(body: Array(text.utf8))
            else {
                throw EvidenceError(.unreadable, "what is recorded as an MTA-STS policy is none")
            }
            let held = MTASTSCacheEntry.Held(
                id: id, policy: policy, fetchedAt: Date(timeIntervalSince1970: Double(fetchedAt) / 1000))
            guard policy.mode != .none, !held.isExpired(at: Date(timeIntervalSince1970: Double(time) / 1000))
            else { throw EvidenceError(.contradicted, "the MTA-STS policy was not in force") }
            return .policy(MTASTSInForce(held))
        }
    }
}
