// A judgement made again from its record alone: the same lookups are read and followed again, the same chain is checked at its own
// time, the same findings must come out, and the same verdict.

import DNS
import Policy
import TLS

extension Judgement {
    /// The longest that a judgement may rest on what was asked before it, in milliseconds: a route is kept for an hour at most, and
    /// a delivery tries hosts for no longer than another one.
    static let longestReliance: Int64 = 2 * 3600 * 1000

    /// Makes the judgement again.
    ///
    /// What is taken on trust is what validation said of each DNS answer, that the connection and the scan were as recorded, what an
    /// MTA-STS policy host served, and which networks were configured as outside the European Economic Area.
    /// - Parameter certificates: DER by digest; each was checked against its digest.
    /// - Throws: `EvidenceError`, where it cannot be made or leads elsewhere.
    public func review(certificates: [String: [UInt8]]) async throws(EvidenceError) {
        guard (1...Judgement.format).contains(format) else {
            throw EvidenceError(.unreadable, "format \(format) is not known")
        }
        guard format > 1 || (policy.askedAt == nil && policy.lookup == nil) else {
            throw EvidenceError(.unreadable, "format \(format) says nothing of how MTA-STS was asked for")
        }
        let (route, host, address) = try await routed(at: try reliedOn(routedAt, "the lookups"))
        if let exclusion, !EEANetworks.holds(exclusion, for: self.address) {
            throw EvidenceError(.contradicted, "\(self.address) is not in \(exclusion)")
        }
        let seen = try found(host, address, certificates).adding(route.nta)
            .adding(exclusion.map { _ in .outsideEEA })
        let again = try scanned(address, seen)
        guard again.findings == findings.findings else {
            throw EvidenceError(
                .contradicted,
                "found again: \(again.findings.map(\.rawValue).joined(separator: ", ")); recorded: "
                    + findings.findings.map(\.rawValue).joined(separator: ", "))
        }
        let verdict = Verdict.judge(ruleset, again)
        guard verdict == self.verdict else {
            throw EvidenceError(
                .contradicted,
                "judged again: \(verdict.outcome.rawValue) \(verdict.reason); recorded: "
                    + "\(self.verdict.outcome.rawValue) \(self.verdict.reason)")
        }
    }

    /// The moment at which something was asked that the judgement rests on, in milliseconds since 1970; format 1 has none but its own.
    private func reliedOn(_ time: Int64?, _ what: String) throws(EvidenceError) -> Int64 {
        guard (time == nil) == (format == 1) else {
            throw EvidenceError(.unreadable, "format \(format) does not say so when \(what) were asked for")
        }
        guard let time else { return madeAt }
        // Either way, for the clock may have been set between the two.
        let (distance, overflow) = madeAt.subtractingReportingOverflow(time)
        guard !overflow, distance.magnitude <= Judgement.longestReliance.magnitude else {
            throw EvidenceError(.contradicted, "\(what) were not asked for at the time of the judgement")
        }
        return time
    }

    /// The host and address, found again from the recorded answers.
    private func routed(at time: Int64) async throws(EvidenceError) -> (Route, RouteHost, RouteAddress) {
        let resolver = AnswerRecorder(try ReplayedAnswers(lookups))
        // The NTA 7516 record counted by the month in which it was looked up, not by that of the connection or of this review.
        let month = ruleset.nta == nil ? nil : Month(of: time)
        let lookup = RouteLookup(resolver: resolver, ownName: nil, port: port, month: month)
        let result: RouteLookup.Result
        if let configured {
            result = await lookup.route(to: domain, through: configured.host, port: configured.port)
        } else {
            guard let name = try? DomainName(domain) else {
                throw EvidenceError(.unreadable, "\(domain) is no domain name")
            }
            result = await lookup.route(to: name)
        }
        guard case .success(let route) = result.outcome,
            let host = route.hosts.first(where: { $0.name == self.host }),
            let address = host.addresses.first(where: { $0.address.description == self.address })
        else {
            throw EvidenceError(.contradicted, "the recorded answers do not lead to \(host) at \(address)")
        }
        return (route, host, address)
    }

    /// What MTA-STS said of the domain.
    private func sts() throws(EvidenceError) -> MTASTSStatus {
        guard policy.isAsked else {
            guard policy.askedAt == nil else {
                throw EvidenceError(.contradicted, "MTA-STS records were not asked for, and it says when")
            }
            return try policy.status(of: domain, at: madeAt)
        }
        return try policy.status(of: domain, at: try reliedOn(policy.askedAt, "MTA-STS records"))
    }

    /// The findings, made again.
    private func found(
        _ host: RouteHost, _ address: RouteAddress, _ certificates: [String: [UInt8]]
    ) throws(EvidenceError) -> HostFindings {
        let sts = try sts()
        guard let connection else {
            guard let absence else {
                throw EvidenceError(.unreadable, "it tells neither of a connection nor of its absence")
            }
            return HostFindings(
                absence: absence, host: host.referenceName, name: host.provenance, tlsa: address.tlsa,
                sts: sts)
        }
        guard let version = TLSVersion(connection.version) else {
            throw EvidenceError(.unreadable, "\(connection.version) is no version of TLS")
        }
        let chain = try connection.chain.map { digest throws(EvidenceError) in
            try certificate(digest, certificates)
        }
        var anchors: [[UInt8]] = []
        if let anchor = connection.anchor { anchors = [try certificate(anchor, certificates)] }
        var records: DANEReference?
        if case .published(let reference) = address.tlsa { records = reference }
        let name = records?.baseDomain ?? host.referenceName
        let checked: ChainJudgement
        do {
            checked = try ChainJudgement(
                chain: chain, anchors: anchors, at: Int(madeAt / 1000), name: name, dane: records,
                staple: connection.staple.map { Array($0) })
        } catch {
            throw EvidenceError(.contradicted, "the certificates cannot be checked: \(error)")
        }
        let peer = PeerEvidence(
            version: version, cipherSuite: connection.cipherSuite,
            isForwardSecret: connection.isForwardSecret,
            cipherBits: connection.cipherBits, keyExchangeGroup: connection.keyExchangeGroup,
            signatureAlgorithm: connection.signatureAlgorithm, serverName: connection.serverName,
            chain: chain, staple: connection.staple.map { Array($0) }, checked: checked)
        return HostFindings(
            evidence: peer, host: host.referenceName, name: host.provenance, tlsa: address.tlsa, sts: sts)
    }

    /// The same and what the scan says, which must be of this host as the connection showed it.
    private func scanned(
        _ address: RouteAddress, _ findings: HostFindings
    ) throws(EvidenceError) -> HostFindings {
        guard let scan else { return findings }
        guard let held = HeldScan(scan) else {
            throw EvidenceError(.unreadable, "what the scan found cannot be read")
        }
        guard let leaf = connection?.chain.first,
            scan.contradiction(ScanSighting(certificate: leaf, tlsa: address.tlsa.digest, ttl: .zero)) == nil
        else { throw EvidenceError(.contradicted, "the scan is not of the host that the connection showed") }
        return HostFindings(Set(findings.findings).union(held.findings), evidence: findings.evidence)
    }

    private func certificate(_ digest: String, _ all: [String: [UInt8]]) throws(EvidenceError) -> [UInt8] {
        guard let der = all[digest] else {
            throw EvidenceError(.incomplete, "certificate \(digest) is missing")
        }
        return der
    }
}

/// A resolver that knows the recorded answers and no others.
private struct ReplayedAnswers: DNSResolving {
    private struct Question: Hashable {
        let name: DomainName
        let type: DNSRecordType
    }

    private var answers: [Question: DNSAnswer] = [:]

    init(_ lookups: [RecordedLookup]) throws(EvidenceError) {
        for lookup in lookups {
            do {
                let answer = try lookup.answer()
                answers[Question(name: answer.name, type: answer.type)] = answer
            } catch let error as EvidenceError {
                throw error
            } catch {
                throw EvidenceError(.unreadable, "\(error)")
            }
        }
    }

    func resolve(_ name: DomainName, _ type: DNSRecordType) async throws(DNSFailure) -> DNSAnswer {
        guard let answer = answers[Question(name: name, type: type)] else {
            throw DNSFailure(.servfail, "\(name) \(type): not answered at the time")
        }
        return answer
    }
}
