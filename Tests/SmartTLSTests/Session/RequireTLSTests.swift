// RFC 8689 §4.2.1 steps 2 and 4, as a table.
import Testing

@testable import SmartTLS

@Suite struct RequireTLSTests {
    @Test(
        "Whether a host is the proven next hop of a message with REQUIRETLS",
        arguments: [
            ([.tls13, .chainTrusted, .nameMatches, .nameProven, .daneAbsent], true),
            ([.tls12, .chainTrusted, .nameMatches, .nameProven, .daneInsecure], true),
            ([.tls13, .chainTrusted, .nameMatches, .nameUnproven, .daneInsecure], false),
            (
                [
                    .tls13, .chainTrusted, .nameMatches, .nameUnproven, .nameProvenBySTS, .stsEnforce,
                    .daneInsecure,
                ], true
            ),
            ([.tls13, .selfSigned, .nameMatches, .nameProven, .daneAbsent], false),
            ([.tls13, .chainTrusted, .nameMismatch, .nameProven, .daneAbsent], false),
            ([.tls13, .selfSigned, .nameMismatch, .nameProven, .tlsaPublished, .daneMatchedEE], true),
            ([.tls13, .untrustedRoot, .nameMatches, .nameProven, .tlsaPublished, .daneMatchedTA], true),
            ([.tls13, .selfSigned, .nameMatches, .nameProven, .tlsaPublished, .daneUnusable], false),
            ([.tls11, .chainTrusted, .nameMatches, .nameProven, .daneAbsent], false),
            ([.starttlsNotOffered, .nameProven, .daneAbsent], false),
        ] as [(Set<Finding>, Bool)])
    func nextHop(_ findings: Set<Finding>, _ isProven: Bool) {
        #expect(
            HostFindings(findings, evidence: EvidenceSummary(host: "mx.test")).isProvenNextHop == isProven)
    }
}
