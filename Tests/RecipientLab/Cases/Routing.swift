// Which hosts there are: RFC 5321 §5.1, RFC 7505, and aliases on the way.

import Lab
import SmartTLS
import TLS

extension RecipientCase {
    private static let dane = "_{P}._tcp.mx TLSA {3 1 1 A}\n"

    static let routing: [RecipientCase] = [
        RecipientCase(
            name: "mx-first-down", rule: "RFC 5321 §5.1: the next host by preference where the first is down",
            zone: "@ MX 20 mx\n@ MX 10 away\naway A {B}\nmx A {A}\n" + dane,
            hosts: [MailHost(.worst), .down],
            verdicts: .dane),
        RecipientCase(
            name: "mx-only-down", rule: "RFC 5321 §5.1: the only host is down: later", hosts: [.down],
            verdicts: .all("defer connection-refused")),
        RecipientCase(
            name: "family-down-refused",
            rule: "RFC 5321 §5.1: refused at one address and not reached at another is refused",
            zone: plain + "mx AAAA ::1\n", hosts: [MailHost(nil)],
            verdicts: Verdicts(
                opportunistic: "deliver cleartext-allowed", secure: "refuse starttls-not-supported",
                nta7516: "refuse starttls-not-supported")),
        RecipientCase(
            name: "null-mx", rule: "RFC 7505 §3: a null MX alone takes no mail", zone: "@ MX 0 .\n",
            hosts: [],
            verdicts: .all("refuse null-mx")),
        RecipientCase(
            name: "null-mx-unsigned", rule: "RFC 7505 §3: the same in a zone that is not signed",
            signing: .unsigned, zone: "@ MX 0 .\n", hosts: [], verdicts: .all("refuse null-mx")),
        RecipientCase(
            name: "null-mx-in-company", rule: "RFC 7505 §3: beside another MX it is no null MX",
            zone: "@ MX 0 .\n" + plain + dane, hosts: [MailHost(.worst)], verdicts: .dane),
        RecipientCase(
            name: "implicit-mx", rule: "RFC 7672 §2.2.1: secure absence of MX, so the domain is its own host",
            zone: "@ A {A}\n_{P}._tcp TLSA {3 1 1 A}\n", hosts: [MailHost(.worst)], verdicts: .dane,
            serverName: "@"),
        RecipientCase(
            name: "implicit-mx-unsigned", rule: "RFC 5321 §5.1: no MX, so the domain is its own host",
            signing: .unsigned, zone: "@ A {A}\n", hosts: [MailHost(names: ["@"])], verdicts: .trusted),
        RecipientCase(
            name: "no-such-domain", rule: "RFC 5321 §5.1: NXDOMAIN, securely, is final", recipient: "gone",
            zone: "www A 127.0.0.1\n", hosts: [], verdicts: .all("refuse no-such-domain")),
        RecipientCase(
            name: "no-such-domain-unsigned", rule: "RFC 5321 §5.1: NXDOMAIN is final", recipient: "gone",
            signing: .unsigned, zone: "www A 127.0.0.1\n", hosts: [], verdicts: .all("refuse no-such-domain")),
        RecipientCase(
            name: "mx-without-address", rule: "RFC 5321 §5.1: MX hosts without any address are final",
            zone: "@ MX 10 mx\nmx TXT \"no address\"\n", hosts: [], verdicts: .all("refuse no-mail-host")),
        RecipientCase(
            name: "mx-to-nowhere",
            rule: "RFC 5321 §5.1: MX hosts that do not exist, and no falling back on A",
            zone: "@ MX 10 mx\n@ A {A}\n", hosts: [MailHost(names: ["@"])],
            verdicts: .all("refuse no-mail-host")),
        RecipientCase(
            name: "mx-is-an-address", rule: "RFC 5321 §5.1: an MX names a host and no address",
            zone: "@ MX 10 127.0.0.1.\n", hosts: [], verdicts: .all("refuse no-mail-host")),
        RecipientCase(
            name: "mx-is-us", rule: "RFC 5321 §5.1: the best MX is this host",
            zone: "@ MX 10 out.own.test.\n",
            hosts: [], verdicts: .all("refuse mail-loop")),
        RecipientCase(
            name: "mx-is-us-later", rule: "RFC 5321 §5.1: hosts better than this one are tried",
            zone: plain + dane + "@ MX 20 out.own.test.\n@ MX 30 further\nfurther A {A}\n",
            hosts: [MailHost(.worst)], verdicts: .dane),
        RecipientCase(
            name: "domain-alias", rule: "RFC 5321 §5.1: the domain is an alias, and its end has the MX",
            recipient: "alias", zone: "alias CNAME real\nreal MX 10 mx\nmx A {A}\n" + dane,
            hosts: [MailHost(.worst)], verdicts: .dane),
        RecipientCase(
            name: "domain-alias-loop",
            rule: "RFC 1034 §3.6.2: an alias of itself by way of another answers nothing",
            recipient: "alias", zone: "alias CNAME real\nreal CNAME alias\n", hosts: [],
            verdicts: .all("defer dns-failure")),
        RecipientCase(
            name: "domain-wildcard", rule: "RFC 4592 §2.1: an MX by wildcard, with its proof",
            recipient: "any",
            zone: "*  MX 10 mx\nmx A {A}\n" + dane, hosts: [MailHost(.worst)], verdicts: .dane),
        RecipientCase(
            name: "mx-alias-end", rule: "RFC 7672 §2.2.2: records at the end of the MX host's alias",
            zone: "@ MX 10 mx\nmx CNAME real\nreal A {A}\n_{P}._tcp.real TLSA {3 1 1 A}\n",
            hosts: [MailHost(.worst)], verdicts: .dane, serverName: "real"),
        RecipientCase(
            name: "mx-alias-odd",
            rule: "RFC 7672 §2.2.2: records at the end of an alias that is no host name",
            zone: "@ MX 10 mx\nmx CNAME a/b\na/b A {A}\n_{P}._tcp.a/b TLSA {3 1 1 A}\n",
            hosts: [MailHost(.worst)], verdicts: .dane),
        RecipientCase(
            name: "mx-alias-itself",
            rule: "RFC 7672 §2.2.3: no records at the end of the alias: the name itself",
            zone: "@ MX 10 mx\nmx CNAME real\nreal A {A}\n" + dane, hosts: [MailHost(.worst)],
            verdicts: .dane, serverName: "mx"),
        RecipientCase(
            name: "mx-alias-both", rule: "RFC 7672 §2.2.2: records at both: those at the end count",
            zone: "@ MX 10 mx\nmx CNAME real\nreal A {A}\n_{P}._tcp.real TLSA {3 1 1 A}\n"
                + "_{P}._tcp.mx TLSA 3 1 1 \(other)\n",
            hosts: [MailHost(.worst)], verdicts: .dane, serverName: "real"),
        RecipientCase(
            name: "mx-alias-outward",
            rule: "RFC 7672 §2.2.2: a signed alias into an unsigned zone, records at the name",
            zone: "@ MX 10 mx\nmx CNAME out.{N}-hosts.test.\n" + dane,
            otherZones: [LabZone("{N}-hosts.test", .unsigned, "out A {A}\n")], hosts: [MailHost(.worst)],
            verdicts: .dane, serverName: "mx"),
        RecipientCase(
            name: "mx-alias-outward-bare", rule: "RFC 7672 §2.2.2: the same without records: no DANE",
            zone: "@ MX 10 mx\nmx CNAME out.{N}-hosts.test.\n",
            otherZones: [LabZone("{N}-hosts.test", .unsigned, "out A {A}\n")], verdicts: .trusted,
            findings: [.daneAbsent]),
        RecipientCase(
            name: "mx-alias-loop",
            rule: "RFC 1034 §3.6.2: an MX host that is an alias of itself answers nothing",
            zone: "@ MX 10 mx\nmx CNAME real\nreal CNAME mx\n", hosts: [], verdicts: .all("defer dns-failure")
        ),
        RecipientCase(
            name: "mx-dname", rule: "RFC 6672 §2.2: an MX host below a DNAME",
            zone: "@ MX 10 mx.old\nold DNAME new\nmx.new A {A}\n_{P}._tcp.mx.new TLSA {3 1 1 A}\n",
            hosts: [MailHost(.worst)], verdicts: .dane, serverName: "mx.new"),
        RecipientCase(
            name: "second-host-matches", rule: "RFC 7672 §2.2: a host that fails is passed over for the next",
            zone: "@ MX 10 mx2\nmx2 A {B}\n_{P}._tcp.mx2 TLSA {3 1 1 A}\n@ MX 20 mx\nmx A {A}\n" + dane,
            hosts: [MailHost(.worst), MailHost(.trusted, names: ["mx2"])], verdicts: .dane,
            findings: [.daneMismatch, .daneMatchedEE]),
        RecipientCase(
            name: "second-address-matches", rule: "RFC 5321 §5.1: every address of a host is judged",
            zone: "@ MX 10 mx\nmx A {A}\nmx A {B}\n" + dane,
            hosts: [MailHost(.worst), MailHost(.selfSigned)],
            verdicts: .dane, findings: [.daneMismatch, .daneMatchedEE]),
        RecipientCase(
            name: "refused-and-unknown",
            rule: "law 2: one host refused and one unknown: the second may be good later",
            zone: "@ MX 10 mx\nmx A {A}\n@ MX 20 unknown\nunknown A {A}\n", hosts: [MailHost(nil)],
            faults: [LookupFault("unknown", .a, .servfail), LookupFault("unknown", .aaaa, .servfail)],
            verdicts: Verdicts(
                opportunistic: "deliver cleartext-allowed", secure: "defer dns-failure",
                nta7516: "defer dns-failure")),
        RecipientCase(
            name: "all-refused", rule: "RFC 5321 §5.1: no host of two is good enough",
            zone: "@ MX 10 mx\nmx A {A}\n@ MX 20 mx2\nmx2 A {B}\n",
            hosts: [MailHost(.selfSigned), MailHost(.expired, names: ["mx2"])],
            verdicts: .untrusted("certificate-not-trusted")),
        RecipientCase(
            name: "static-route", rule: "RFC 7672 §2.2: the operator's word proves the name, DNSSEC the rest",
            zone: "mx A {A}\n" + dane, hosts: [MailHost(.worst)], route: "mx.{D}:{P}", verdicts: .dane),
        RecipientCase(
            name: "static-route-address",
            rule: "design §9: an operator's address has no name: the certificate carries the domain's",
            hosts: [MailHost(names: ["@"])], route: "{A}:{P}", verdicts: .trusted, findings: [.stsBypassed]),
    ]
}
