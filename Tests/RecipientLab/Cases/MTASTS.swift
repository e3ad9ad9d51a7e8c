// What an MTA-STS policy decides where TLSA records do not, and what a policy that cannot be had does: RFC 8461.

import Lab
import SmartTLS
import TLS

extension RecipientCase {
    private static let bySTS = Verdicts(
        opportunistic: "deliver sts-authenticated", secure: "deliver sts-authenticated")
    private static func enforced(_ hosts: String...) -> PolicyHost {
        PolicyHost(
            "version: STSv1\r\nmode: enforce\r\n" + hosts.map { "mx: \($0)\r\n" }.joined()
                + "max_age: 86400\r\n")
    }
    private static func failing(_ reason: String) -> Verdicts {
        Verdicts(opportunistic: "defer \(reason)", secure: "refuse \(reason)")
    }

    static let policies: [RecipientCase] = [
        RecipientCase(
            name: "sts-enforce", rule: "RFC 8461 §4.2: enforced and satisfied", signing: .unsigned,
            zone: withPolicy, policyHost: enforced("*.other.test", "mx.{D}"), verdicts: bySTS,
            findings: [.stsEnforce, .nameProvenBySTS]),
        RecipientCase(
            name: "sts-wildcard", rule: "RFC 8461 §4.1: `*.` stands for one label", signing: .unsigned,
            zone: withPolicy, policyHost: enforced("*.{D}"), verdicts: bySTS),
        RecipientCase(
            name: "sts-wildcard-two-labels", rule: "RFC 8461 §4.1: and not for two", signing: .unsigned,
            zone: "@ MX 10 mx.in\nmx.in A {A}\nmta-sts A {W}\n_mta-sts TXT \"v=STSv1; id=1\"\n",
            hosts: [MailHost(names: ["mx.in"])], policyHost: enforced("*.{D}"),
            verdicts: Verdicts(opportunistic: "defer sts-mx-mismatch", secure: "defer sts-mx-mismatch")),
        RecipientCase(
            name: "sts-mx-mismatch", rule: "RFC 8461 §4.1: a host that the policy does not name is not used",
            signing: .unsigned, zone: withPolicy, policyHost: enforced("mx.other.test", "{D}"),
            verdicts: Verdicts(opportunistic: "defer sts-mx-mismatch", secure: "defer sts-mx-mismatch")),
        RecipientCase(
            name: "sts-second-host", rule: "RFC 8461 §4.1: the next host is named", signing: .unsigned,
            zone:
                "@ MX 10 mx2\n@ MX 20 mx\nmx A {A}\nmx2 A {B}\nmta-sts A {W}\n_mta-sts TXT \"v=STSv1; id=1\"\n",
            hosts: [MailHost(), MailHost(names: ["mx2"])], policyHost: enforced("mx.{D}"), verdicts: bySTS),
        RecipientCase(
            name: "sts-self-signed",
            rule: "RFC 8461 §5: enforced and self-signed: nothing goes, under any ruleset",
            signing: .unsigned, zone: withPolicy, hosts: [MailHost(.selfSigned)],
            policyHost: enforced("mx.{D}"), verdicts: failing("certificate-not-trusted")),
        RecipientCase(
            name: "sts-expired", rule: "RFC 8461 §4.2: enforced and expired", signing: .unsigned,
            zone: withPolicy, hosts: [MailHost(.expired)], policyHost: enforced("mx.{D}"),
            verdicts: failing("certificate-expired")),
        RecipientCase(
            name: "sts-wrong-name", rule: "RFC 8461 §4.2: enforced and wrongly named", signing: .unsigned,
            zone: withPolicy, hosts: [MailHost(names: ["@"])], policyHost: enforced("mx.{D}"),
            verdicts: failing("certificate-host-mismatch")),
        RecipientCase(
            name: "sts-no-starttls", rule: "RFC 8461 §5: enforced and no STARTTLS: never in clear",
            signing: .unsigned, zone: withPolicy, hosts: [MailHost(nil)], policyHost: enforced("mx.{D}"),
            verdicts: Verdicts(
                opportunistic: "defer starttls-not-supported", secure: "refuse starttls-not-supported",
                nta7516: "refuse starttls-not-supported")),
        RecipientCase(
            name: "sts-tls11", rule: "RFC 8461 §4.2: enforced and TLS 1.1", signing: .unsigned,
            zone: withPolicy, hosts: [.speaking(.tls10, .tls11)], policyHost: enforced("mx.{D}"),
            verdicts: Verdicts(
                opportunistic: "defer tls-version-too-low", secure: "refuse tls-version-too-low",
                nta7516: "refuse tls-version-too-low")),
        RecipientCase(
            name: "sts-testing", rule: "RFC 8461 §5: testing only reports", signing: .unsigned,
            zone: withPolicy, hosts: [MailHost(.selfSigned)],
            policyHost: PolicyHost(PolicyHost.policy("testing", "mx.other.test")),
            verdicts: .untrusted("certificate-not-trusted"), findings: [.stsTesting, .stsMXMismatch]),
        RecipientCase(
            name: "sts-none", rule: "RFC 8461 §3.2: mode none is no policy", signing: .unsigned,
            zone: withPolicy, hosts: [MailHost(.selfSigned)],
            policyHost: PolicyHost(PolicyHost.policy("none")),
            verdicts: .untrusted("certificate-not-trusted"), findings: [.stsAbsent]),
        RecipientCase(
            name: "sts-two-records", rule: "RFC 8461 §3.1: two records are none", signing: .unsigned,
            zone: withPolicy + "_mta-sts TXT \"v=STSv1; id=2\"\n", hosts: [MailHost(.selfSigned)],
            policyHost: enforced("mx.other.test"), verdicts: .untrusted("certificate-not-trusted"),
            findings: [.stsAbsent]),
        RecipientCase(
            name: "sts-dane-matches", rule: "RFC 8461 §2: DANE matches, whatever the policy names",
            zone: withPolicy + "_{P}._tcp.mx TLSA {3 1 1 A}\n", hosts: [MailHost(.worst)],
            policyHost: enforced("mx.other.test"), verdicts: .dane),
        RecipientCase(
            name: "sts-dane-fails", rule: "RFC 8461 §2: DANE does not match, whatever the policy says",
            zone: withPolicy + "_{P}._tcp.mx TLSA 3 1 1 \(other)\n", policyHost: enforced("mx.{D}"),
            verdicts: .all("defer tlsa-invalid")),
        RecipientCase(
            name: "sts-dane-absent", rule: "RFC 8461 §2: provably no TLSA: the policy decides",
            zone: withPolicy,
            policyHost: enforced("mx.{D}"), verdicts: bySTS),
        RecipientCase(
            name: "sts-shared-host",
            rule: "RFC 8461 §3.4: the policy of another domain on the same host is not this domain's",
            signing: .unsigned,
            zone: plain,
            otherZones: [
                LabZone(
                    "{N}-tenant.test", .unsigned,
                    "@ MX 10 mx.{D}.\n_mta-sts TXT \"v=STSv1; id=1\"\nmta-sts A {W}\n")
            ], hosts: [MailHost(.selfSigned)], policyHost: enforced("mx.{D}"),
            verdicts: .untrusted("certificate-not-trusted"), findings: [.stsAbsent]),
    ]

    /// A policy that cannot be had: what follows with none held, and that a held one stays in force.
    static let fetches: [RecipientCase] = {
        let enforcing = PolicyHost.policy("enforce", "mx.other.test")
        func row(
            _ name: String, _ rule: String, _ behaviour: PolicyHost.Behaviour, _ finding: Finding,
            body: String? = nil, zone: String? = nil, faults: [LookupFault] = [],
            _ change: (inout PolicyHost) -> Void = { _ in }
        ) -> [RecipientCase] {
            var host = PolicyHost(body ?? enforcing, behaviour)
            change(&host)
            return [
                RecipientCase(
                    name: "fetch-\(name)", rule: "RFC 8461 §5.1, \(rule): as if there were none",
                    signing: .unsigned, zone: zone ?? withPolicy, policyHost: host, faults: faults,
                    verdicts: .trusted, findings: [finding]),
                RecipientCase(
                    name: "held-\(name)",
                    rule: "RFC 8461 §5.1, \(rule): the policy that is held stays in force",
                    signing: .unsigned, zone: zone ?? withPolicy, policyHost: host,
                    heldPolicy: enforcing, faults: faults,
                    verdicts: Verdicts(
                        opportunistic: "defer sts-mx-mismatch", secure: "defer sts-mx-mismatch"),
                    findings: [.stsEnforce, .stsMXMismatch]),
            ]
        }
        let address = "mta-sts"
        func lookup(_ fault: FaultyNameServer.Fault) -> [LookupFault] {
            [LookupFault(address, .a, fault), LookupFault(address, .aaaa, fault)]
        }
        let rows = [
            row("timeout", "the host says nothing", .silent, .stsPolicyFetchError),
            row("refused", "the host takes no connection", .down, .stsPolicyFetchError),
            row("truncated", "the body breaks off", .truncated, .stsPolicyFetchError),
            row("not-found", "status 404", .status(404), .stsPolicyFetchError),
            row("server-error", "status 500", .status(500), .stsPolicyFetchError),
            row(
                "redirect", "status 301 is not followed (§3.3)",
                .status(
                    301, fields: "Location: https://mta-sts.sts-enforce.test/.well-known/mta-sts.txt\r\n"),
                .stsPolicyFetchError),
            row("html", "not text/plain (§3.2)", .type("text/html"), .stsPolicyInvalid),
            row("no-policy", "a body that is none (§3.2)", .serves, .stsPolicyInvalid, body: "<html></html>"),
            row(
                "too-large", "more than 64 KB (§3.3)", .serves, .stsPolicyInvalid,
                body: String(repeating: "mx: mx.other.test\r\n", count: 4_000)),
            row("self-signed", "the host's certificate is self-signed (§3.3)", .serves, .stsWebPKIInvalid) {
                $0.certificate = .selfSigned
            },
            row("expired", "the host's certificate has expired (§3.3)", .serves, .stsWebPKIInvalid) {
                $0.certificate = .expired
            },
            row("wrong-name", "the host has the certificate of the domain (§3.3)", .serves, .stsWebPKIInvalid)
            {
                $0.names = ["@"]
            },
            row(
                "no-host", "the host does not exist", .down, .stsPolicyFetchError,
                zone: plain + "_mta-sts TXT \"v=STSv1; id=1\"\n"),
            row(
                "host-servfail", "the host's address ends in SERVFAIL", .serves, .stsPolicyFetchError,
                faults: lookup(.servfail)),
        ]
        return rows.flatMap(\.self)
    }()
}
