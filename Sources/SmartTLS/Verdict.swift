// May a message under this ruleset go over this connection? A pure function of ruleset and findings: no clock, no
// network, the same answer every time.
//
// The decisions that are not obvious:
// - `opportunistic` falls back to cleartext only where STARTTLS is not offered. A server that offers it and then
//   fails gets another attempt later, not our cleartext: whoever can break a handshake must gain nothing by it
//   (design law 2).
// - A handshake that broke off proves nothing, so it defers under every ruleset. A server that has no protocol
//   version in common with us has told what it is: a ruleset that demands TLS refuses it at once.
// - `dane` is demanded by `nta7516` and is not judged yet: it refuses with `dane-required`, and never falls back.
import Policy

/// What SmartTLS concludes about one host, or about all hosts of a domain together.
public struct Verdict: Sendable, Hashable, Codable {
    /// What to do with the message on this connection.
    public enum Outcome: String, Sendable, Hashable, Codable {
        /// The connection satisfies the ruleset.
        case deliver
        /// Nobody knows yet: try again later.
        case `defer`
        /// The host is not good enough.
        case refuse
    }

    /// What to do.
    public let outcome: Outcome
    /// The first reason; for `deliver` what the delivery rests on.
    public let reason: ReasonCode
    /// Everything that is short of the ruleset, the gravest first; empty for `deliver`.
    public let shortcomings: [ReasonCode]
    /// The ruleset that was applied.
    public let ruleset: String
    /// Its version.
    public let rulesetVersion: Int

    private init(
        _ outcome: Outcome, _ reason: ReasonCode, _ shortcomings: [ReasonCode], _ ruleset: Ruleset
    ) {
        self.outcome = outcome
        self.reason = reason
        self.shortcomings = shortcomings
        self.ruleset = ruleset.name
        self.rulesetVersion = ruleset.version
    }

    /// Judges the findings on one host.
    public static func judge(_ ruleset: Ruleset, _ host: HostFindings) -> Verdict {
        let findings = Set(host.findings)
        if findings.contains(.starttlsNotOffered) {
            guard ruleset.demandsTLS else { return Verdict(.deliver, .cleartextAllowed, [], ruleset) }
            return refuse(ruleset, [.starttlsNotSupported])
        }
        if findings.contains(.noCommonVersion), ruleset.demandsTLS {
            return refuse(ruleset, [.tlsVersionTooLow])
        }
        if !findings.isDisjoint(with: [.noCommonVersion, .handshakeFailed, .starttlsRejected]) {
            return Verdict(.defer, .tlsHandshakeFailed, [.tlsHandshakeFailed], ruleset)
        }
        guard let version = findings.compactMap(\.protocolRank).max() else {
            // Findings without a connection say nothing about it; nothing follows from nothing.
            return Verdict(.defer, .validationFailure, [.validationFailure], ruleset)
        }
        let shortcomings = shortcomings(ruleset, findings, version: version)
        guard shortcomings.isEmpty else { return refuse(ruleset, shortcomings) }
        let isAuthenticated = findings.isSuperset(of: [.chainTrusted, .nameMatches])
        return Verdict(.deliver, isAuthenticated ? .tlsAuthenticated : .tlsUnauthenticated, [], ruleset)
    }

    /// The verdict on a message whose ruleset this node does not know: it waits, and is not judged by another.
    public static func unknownRuleset(named name: String) -> Verdict {
        var unknown = Ruleset.nta7516
        (unknown.name, unknown.version) = (name, 0)
        return Verdict(.defer, .rulesetUnknown, [.rulesetUnknown], unknown)
    }

    /// The verdict on a domain from those on its hosts, of which none took the message.
    ///
    /// One host that may be good enough later is enough to wait for; only when all are refused is the domain.
    /// - Parameter verdicts: in the order in which the hosts were tried.
    /// - Returns: nil when there is none.
    public static func overall(_ verdicts: [Verdict]) -> Verdict? {
        verdicts.first { $0.outcome == .deliver } ?? verdicts.first { $0.outcome == .defer } ?? verdicts.first
    }

    private static func refuse(_ ruleset: Ruleset, _ shortcomings: [ReasonCode]) -> Verdict {
        Verdict(.refuse, shortcomings.first ?? .validationFailure, shortcomings, ruleset)
    }

    private static func shortcomings(
        _ ruleset: Ruleset, _ findings: Set<Finding>, version: Int
    ) -> [ReasonCode] {
        var reasons: [ReasonCode] = []
        if let floor = ruleset.minimumVersion, version < floor.rank { reasons.append(.tlsVersionTooLow) }
        if ruleset.requiresForwardSecrecy, !findings.contains(.forwardSecrecy) {
            reasons.append(.noForwardSecrecy)
        }
        switch ruleset.authentication {
        case .none: break
        case .dane: reasons.append(.daneRequired)
        case .pkixName:
            if !findings.contains(.chainTrusted) {
                let faults = Finding.chainFaults.filter(findings.contains).map(\.reason)
                reasons += faults.isEmpty ? [.validationFailure] : faults
            }
            if !findings.contains(.nameMatches) { reasons.append(.certificateHostMismatch) }
        }
        if !ruleset.acceptsUnprovenName, !findings.contains(.nameProven) { reasons.append(.nameUnproven) }
        var seen: Set<ReasonCode> = []
        return reasons.filter { seen.insert($0).inserted }
    }
}

extension Ruleset {
    /// Whether cleartext can never satisfy it.
    fileprivate var demandsTLS: Bool {
        requiresTLS || minimumVersion != nil || requiresForwardSecrecy || authentication != .none
    }
}

extension ProtocolFloor {
    fileprivate var rank: Int {
        switch self {
        case .tls12: 2
        case .tls13: 3
        }
    }
}

extension Finding {
    fileprivate var protocolRank: Int? {
        switch self {
        case .tls10: 0
        case .tls11: 1
        case .tls12: 2
        case .tls13: 3
        default: nil
        }
    }

    /// The reason code of a fault of the chain (RFC 8460 §4.3.2.2).
    fileprivate var reason: ReasonCode {
        switch self {
        case .expired: .certificateExpired
        case .notYetValid: .certificateNotYetValid
        case .selfSigned, .untrustedRoot, .missingIntermediate, .noCertificate: .certificateNotTrusted
        default: .validationFailure
        }
    }
}
