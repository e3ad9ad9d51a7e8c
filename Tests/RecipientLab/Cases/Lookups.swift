// Every kind of lookup, each failing in every way: a failure is never an absence (law 2, RFC 7672 §2.1.2).

import Lab
import SmartTLS
import TLS

extension RecipientCase {
    /// What can become of a question besides an answer; `altered`: an answer with a wrong signature.
    private static let failures: [(name: String, fault: FaultyNameServer.Fault?)] = [
        ("servfail", .servfail), ("timeout", .silence), ("bogus", nil), ("refused", .refused),
        ("truncated", .truncated), ("denied", .denied),
    ]

    private static func failed(_ fault: FaultyNameServer.Fault?) -> String {
        fault == nil || fault == .denied ? "dnssec-invalid" : "dns-failure"
    }

    /// A row for each failure of one lookup.
    private static func failing(
        _ kind: String, _ rule: String, at name: String, _ types: [LookupType], zone: String,
        host: CertificateKind = .worst, altered: (name: String, type: String),
        _ verdicts: (_ failure: String) -> Verdicts
    ) -> [RecipientCase] {
        failures.map { failure in
            var row = RecipientCase(
                name: "\(kind)-\(failure.name)", rule: rule, zone: zone, hosts: [MailHost(host)],
                verdicts: verdicts(failed(failure.fault)))
            if let fault = failure.fault {
                row.faults = types.map { LookupFault(name, $0, fault) }
            } else {
                row.signing = .altered(name: altered.name, type: altered.type)
            }
            return row
        }
    }

    static let lookups: [RecipientCase] = [
        failing(
            "mx", "RFC 7672 §2.1.2: MX cannot be looked up: delivery is delayed", at: "@", [.mx],
            zone: published("3 1 1 A"), altered: ("@", "MX")
        ) { .all("defer \($0)") },
        failing(
            "address", "RFC 7672 §2.1.2: the addresses of the only host cannot be looked up", at: "mx",
            [.a, .aaaa],
            zone: published("3 1 1 A"), altered: ("mx", "A")
        ) { .all("defer \($0)") },
        failing(
            "aaaa", "RFC 7672 §2.1.2: AAAA cannot be looked up, and A goes on", at: "mx", [.aaaa],
            zone: published("3 1 1 A") + "mx AAAA ::1\n", altered: ("mx", "AAAA")
        ) { _ in .dane },
        failing(
            "other-family",
            "law 2: AAAA cannot be looked up and A is refused: what was not seen may be good enough, so later",
            at: "mx", [.aaaa], zone: plain + "mx AAAA ::1\n", host: .selfSigned, altered: ("mx", "AAAA")
        ) { failure in
            Verdicts(
                opportunistic: "deliver tls-unauthenticated", secure: "defer \(failure)",
                nta7516: "defer \(failure)")
        },
        failing(
            "tlsa", "RFC 7672 §2.1.2: TLSA cannot be looked up: the host counts as unreachable",
            at: "_{P}._tcp.mx", [.tlsa], zone: published("3 1 1 A"), host: .trusted,
            altered: ("_{P}._tcp.mx", "TLSA")
        ) { .all("defer \($0)") },
        failing(
            "sts-record",
            "law 2: the record of an MTA-STS policy cannot be looked up: nobody knows whether there is one",
            at: "_mta-sts", [.txt], zone: plain + "_mta-sts TXT \"v=STSv1; id=1\"\n", host: .trusted,
            altered: ("_mta-sts", "TXT")
        ) { failure in
            let verdict = "defer \(failure == "dnssec-invalid" ? failure : "sts-lookup-failed")"
            return Verdicts(opportunistic: verdict, secure: verdict)
        },
        failing(
            "nta-record", "NTA 7516: the record cannot be looked up, which counts under nta7516 only",
            at: "@", [.txt],
            zone: published("3 1 1 A") + "@ TXT \"v=NTA7516-1;startdate=2019-06;enddate=2999-12\"\n",
            altered: ("@", "TXT")
        ) { failure in
            Verdicts(
                opportunistic: "deliver dane-authenticated", secure: "deliver dane-authenticated",
                nta7516: "defer \(failure)")
        },
        [
            RecipientCase(
                name: "tlsa-servfail-at-alias-end",
                rule: "RFC 7672 §2.2.2: TLSA fails at the end of an alias: the name itself is no way out",
                zone: "@ MX 10 mx\nmx CNAME real\nreal A {A}\n_{P}._tcp.mx TLSA {3 1 1 A}\n",
                faults: [LookupFault("_{P}._tcp.real", .tlsa, .servfail)], verdicts: .all("defer dns-failure")
            ),
            RecipientCase(
                name: "tlsa-servfail-next-host",
                rule: "RFC 7672 §2.1.2: TLSA fails for one host: the next one is used",
                zone: "@ MX 10 mx2\nmx2 A {B}\n@ MX 20 mx\nmx A {A}\n_{P}._tcp.mx TLSA {3 1 1 A}\n",
                hosts: [MailHost(.worst), MailHost(names: ["mx2"])],
                faults: [LookupFault("_{P}._tcp.mx2", .tlsa, .servfail)], verdicts: .dane),
            RecipientCase(
                name: "mx-servfail-unsigned",
                rule: "RFC 5321 §5.1: MX fails in an unsigned zone: no falling back on A",
                signing: .unsigned, zone: plain + "@ A {A}\n", faults: [LookupFault("@", .mx, .servfail)],
                verdicts: .all("defer dns-failure")),
            RecipientCase(
                name: "tlsa-denied-unsigned",
                rule:
                    "RFC 7672 §2.2.2: where the address is insecure TLSA is not asked for, whatever the answer would be",
                signing: .unsigned, faults: [LookupFault("_{P}._tcp.mx", .tlsa, .servfail)],
                verdicts: .trusted,
                findings: [.daneInsecure]),
        ],
    ].flatMap(\.self)
}
