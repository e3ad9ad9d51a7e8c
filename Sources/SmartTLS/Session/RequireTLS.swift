// What RFC 8689 demands of the next hop of a message with REQUIRETLS, whatever its ruleset: TLS, and a host that is the right one.
import Policy

extension HostFindings {
    /// Whether the host is proven as RFC 8689 §4.2.1 has it: by its TLSA records, or by a trusted certificate with its name, where
    /// that name itself is proven, by DNSSEC or by an enforced MTA-STS policy, and not whatever unsigned DNS said.
    public var isProvenNextHop: Bool {
        let all = Set(findings)
        guard !all.isDisjoint(with: [.tls12, .tls13]) else { return false }
        return !all.isDisjoint(with: [.daneMatchedEE, .daneMatchedTA])
            || all.isSuperset(of: [.chainTrusted, .nameMatches])
                && !all.isDisjoint(with: [.nameProven, .nameProvenBySTS])
    }

    /// Why it is not known yet whether the host is proven: nothing is missing but the proof of its name, and the MTA-STS policy that
    /// may be it is published and could not be had. Nil: that is not so.
    public var awaitedProof: ReasonCode? {
        let all = Set(findings)
        let named = HostFindings(all.union([.nameProvenBySTS]), evidence: evidence)
        return !isProvenNextHop && named.isProvenNextHop ? all.unavailablePolicy : nil
    }
}
