// May a message under this ruleset go over this connection? A pure function of ruleset and findings: no clock, no
// network, the same answer every time.
//
// The decisions that are not obvious:
// - `opportunistic` falls back to cleartext only where STARTTLS is not offered. A server that offers it and then
//   fails gets another attempt later, not our cleartext: whoever can break a handshake must gain nothing by it
//   (design law 2).
// - A handshake that broke off proves nothing, so it defers under every ruleset. A server that has no protocol
//   version in common with us has told what it is: a ruleset that demands TLS refuses it at once.
// - Where TLSA records are published, a peer that does not satisfy them is not known to be the host: whatever it shows
//   is no property of the host, so that it defers and never refuses (RFC 7672 §2.2: delivery is delayed). A valid
//   certificate of another authority saves nothing.
// - Where a record matches, chain, dates and name by trusted roots are beside the point (RFC 7671 §5.1, §5.2).
// - Where it is not known whether there are TLSA records, nothing is sent, not even in clear under `opportunistic`.
// - MTA-STS has a say only where TLSA records have none (RFC 8461 §2): where there are provably none, and where none of
//   those that are there can be used, which proves nothing either. A ruleset that demands DANE does not ask it.
// - What a scan found counts only where the ruleset asks for it, and can only tighten (design §9): a host that accepts what is
//   insufficient is refused, however good this connection is; one that must have been scanned and was not waits.
// - A host that fails an enforced policy defers (RFC 8461 §5: delay), unless it falls short of the ruleset's own demands too,
//   which refuse as ever. A host that the policy does not name is not known to be the domain's, so nothing that it shows counts.
// - A policy that is published and cannot be had demands nothing (RFC 8461 §5.1). Where all that a host lacks is a proof of its name
//   that this policy may be, the message waits for it: a web site that is away for an hour must not bounce mail.
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
        if let foregone = foregone(ruleset, host) { return foregone }
        let mustMatch = findings.contains(.tlsaPublished)
        let isEnforced = findings.contains(.stsEnforce) && ruleset.asksMTASTS
        if findings.contains(.starttlsNotOffered) {
            if mustMatch { return put(off: ruleset, .starttlsNotSupported) }
            guard !ruleset.demandsTLS else { return refuse(ruleset, [.starttlsNotSupported]) }
            if isEnforced { return put(off: ruleset, .starttlsNotSupported) }
            return Verdict(.deliver, .cleartextAllowed, [], ruleset)
        }
        if findings.contains(.noCommonVersion), ruleset.demandsTLS {
            if mustMatch { return put(off: ruleset, .tlsVersionTooLow) }
            return refuse(ruleset, [.tlsVersionTooLow])
        }
        if !findings.isDisjoint(with: [.noCommonVersion, .handshakeFailed, .starttlsRejected]) {
            return put(off: ruleset, .tlsHandshakeFailed)
        }
        guard let version = findings.compactMap(\.protocolRank).max() else {
            // Findings without a connection say nothing about it; nothing follows from nothing.
            return put(off: ruleset, .validationFailure)
        }
        var isProven = false
        if mustMatch {
            if let fault = Finding.daneFaults.first(where: findings.contains) {
                return put(off: ruleset, fault.reason)
            }
            isProven = !findings.isDisjoint(with: [.daneMatchedEE, .daneMatchedTA])
            guard isProven || findings.contains(.daneUnusable) else {
                return put(off: ruleset, .validationFailure)
            }
            if !isProven, let reason = objection(ruleset, findings) { return put(off: ruleset, reason) }
        }
        let shortcomings = shortcomings(ruleset, findings, version: version, isProven: isProven)
        if shortcomings == [.nameUnproven], ruleset.asksMTASTS, let reason = findings.unavailablePolicy {
            return put(off: ruleset, reason)
        }
        guard shortcomings.isEmpty else { return refuse(ruleset, shortcomings) }
        if ruleset.scan == .required, !findings.contains(.scanned) { return put(off: ruleset, .scanPending) }
        if isProven { return Verdict(.deliver, .daneAuthenticated, [], ruleset) }
        if isEnforced {
            let lacking = lackingForPolicy(findings, version: version)
            return lacking.isEmpty
                ? Verdict(.deliver, .stsAuthenticated, [], ruleset)
                : Verdict(.defer, lacking[0], lacking, ruleset)
        }
        let isAuthenticated = findings.isSuperset(of: [.chainTrusted, .nameMatches])
        return Verdict(.deliver, isAuthenticated ? .tlsAuthenticated : .tlsUnauthenticated, [], ruleset)
    }

    /// The verdict that is certain before any connection is made, whatever it would show; nil: none is.
    public static func foregone(_ ruleset: Ruleset, _ host: HostFindings) -> Verdict? {
        let findings = Set(host.findings)
        if findings.contains(.tlsaBogus) { return put(off: ruleset, .dnssecInvalid) }
        if findings.contains(.tlsaLookupFailed) { return put(off: ruleset, .dnsFailure) }
        if findings.contains(.tlsaPublished) { return nil }
        guard !findings.isDisjoint(with: [.daneAbsent, .daneInsecure]) else {
            // Nothing follows from nothing: there may be records.
            return put(off: ruleset, .validationFailure)
        }
        return objection(ruleset, findings).map { put(off: ruleset, $0) }
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

    private static func put(off ruleset: Ruleset, _ reason: ReasonCode) -> Verdict {
        Verdict(.defer, reason, [reason], ruleset)
    }

    /// What MTA-STS has against the host, whatever a connection shows; nil: nothing.
    private static func objection(_ ruleset: Ruleset, _ findings: Set<Finding>) -> ReasonCode? {
        guard ruleset.asksMTASTS else { return nil }
        if findings.contains(.stsBogus) { return .dnssecInvalid }
        if findings.contains(.stsLookupFailed) { return .stsLookupFailed }
        if findings.contains(.stsEnforce) {
            return findings.contains(.stsMXMismatch) ? .stsMXMismatch : nil
        }
        // Whoever did not look knows of no policy and of no absence.
        return findings.isDisjoint(with: Finding.stsUndemanding) ? .validationFailure : nil
    }

    /// What a connection lacks for an enforced policy (RFC 8461 §4.2), the gravest first.
    private static func lackingForPolicy(_ findings: Set<Finding>, version: Int) -> [ReasonCode] {
        (version < ProtocolFloor.tls12.rank ? [.tlsVersionTooLow] : []) + unauthenticated(findings)
    }

    /// Why a certificate proves nothing of the host's name, the gravest first.
    private static func unauthenticated(_ findings: Set<Finding>) -> [ReasonCode] {
        var reasons: [ReasonCode] = []
        if !findings.contains(.chainTrusted) {
            let faults = Finding.chainFaults.filter(findings.contains).map(\.reason)
            reasons += faults.isEmpty ? [.validationFailure] : faults
        }
        if !findings.contains(.nameMatches) { reasons.append(.certificateHostMismatch) }
        return reasons
    }

    /// - isProven: a TLSA record matches.
    private static func shortcomings(
        _ ruleset: Ruleset, _ findings: Set<Finding>, version: Int, isProven: Bool
    ) -> [ReasonCode] {
        var reasons: [ReasonCode] = []
        if ruleset.nta == .required, !findings.contains(.ntaCapable) { reasons.append(.ntaNotCapable) }
        if ruleset.nta != nil, findings.contains(.outsideEEA) { reasons.append(.outsideEEA) }
        if let floor = ruleset.minimumVersion, version < floor.rank { reasons.append(.tlsVersionTooLow) }
        if ruleset.requiresForwardSecrecy, !findings.contains(.forwardSecrecy) {
            reasons.append(.noForwardSecrecy)
        }
        switch ruleset.authentication {
        case .none: break
        case .dane where isProven, .pkixName where isProven: break
        case .dane: reasons.append(findings.contains(.daneUnusable) ? .tlsaInvalid : .daneRequired)
        case .pkixName: reasons += unauthenticated(findings)
        }
        if ruleset.scan != nil, !findings.isDisjoint(with: Finding.insufficientOffers) {
            reasons.append(.insufficientTLSAccepted)
        }
        let proofs: Set<Finding> = ruleset.asksMTASTS ? [.nameProven, .nameProvenBySTS] : [.nameProven]
        if !ruleset.acceptsUnprovenName, findings.isDisjoint(with: proofs) { reasons.append(.nameUnproven) }
        var seen: Set<ReasonCode> = []
        return reasons.filter { seen.insert($0).inserted }
    }
}

extension Ruleset {
    /// Whether MTA-STS can add anything: where DANE is demanded it proves nothing.
    fileprivate var asksMTASTS: Bool { authentication != .dane }

    /// Whether cleartext can never satisfy it.
    fileprivate var demandsTLS: Bool {
        requiresTLS || minimumVersion != nil || requiresForwardSecrecy || authentication != .none
            || nta != nil || scan != nil
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

    /// The reason code of a fault of the chain, of MTA-STS or of DANE (RFC 8460 §4.3: `tlsa-invalid` is for a set of records none of which
    /// is valid; what a chain lacks below a record that matches has the name that it has elsewhere).
    fileprivate var reason: ReasonCode {
        switch self {
        case .daneMismatch: .tlsaInvalid
        case .daneNameMismatch: .certificateHostMismatch
        case .expired, .daneExpired: .certificateExpired
        case .notYetValid: .certificateNotYetValid
        case .revoked: .certificateRevoked
        case .selfSigned, .untrustedRoot, .missingIntermediate, .noCertificate: .certificateNotTrusted
        case .stsPolicyFetchError: .stsPolicyFetchError
        case .stsPolicyInvalid: .stsPolicyInvalid
        case .stsWebPKIInvalid: .stsWebPKIInvalid
        default: .validationFailure
        }
    }
}

extension Set<Finding> {
    /// Why a policy that is published could not be had; nil: none is, or it could.
    var unavailablePolicy: ReasonCode? { Finding.stsUnavailable.first(where: contains)?.reason }
}
