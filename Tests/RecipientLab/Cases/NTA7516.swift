// The NTA 7516 record of the recipient domain, in both dialects. It counts under `nta7516` only.

import Lab
import SmartTLS
import TLS

extension RecipientCase {
    private static let dates = "startdate=2019-06;enddate=2999-12"

    private static func nta(
        _ name: String, _ rule: String, _ records: String..., signing: LabZone.Signing = .signed,
        more: String = "", hosts: [MailHost] = [MailHost(.worst)], verdicts: Verdicts = .dane,
        findings: [Finding] = []
    ) -> RecipientCase {
        RecipientCase(
            name: "nta-\(name)", rule: "NTA 7516, \(rule)", signing: signing,
            zone: published("3 1 1 A") + records.map { "@ TXT \"\($0)\"\n" }.joined() + more, hosts: hosts,
            verdicts: verdicts, findings: findings)
    }

    /// Verdicts where `nta7516` goes elsewhere than the others.
    private static func apart(_ nta7516: String) -> Verdicts {
        Verdicts(
            opportunistic: "deliver dane-authenticated", secure: "deliver dane-authenticated",
            nta7516: nta7516)
    }

    static let ntaRecords: [RecipientCase] = {
        let inbound = "in A {B}\n_{P}._tcp.in TLSA {3 1 1 B}\n"
        let two = [MailHost(.worst), MailHost(.selfSigned, names: ["in"])]
        return [
            nta(
                "capable", "a valid record without hosts: the ordinary MX",
                "v=NTA7516-1;\(dates);provider=Lab", findings: [.ntaCapable]),
            nta(
                "old-dialect", "the older dialect, with colons",
                "v=NTA7516;version:2019-06;expire:2999-12;provider:lab", findings: [.ntaCapable]),
            RecipientCase(
                name: "nta-hosts",
                rule: "NTA 7516, the hosts that a valid record names, and never the ordinary MX",
                zone: "@ MX 10 mx\nmx A {A}\n@ TXT \"v=NTA7516-1;\(dates);ntamx=20 none;ntamx=10 in.{D}\"\n"
                    + inbound,
                hosts: [MailHost(nil), MailHost(.worst, names: ["in"])],
                verdicts: Verdicts(
                    opportunistic: "deliver cleartext-allowed", secure: "refuse starttls-not-supported",
                    nta7516: "deliver dane-authenticated")),
            nta(
                "host-not-good-enough", "a host of a valid record is not replaced by a good ordinary MX",
                "v=NTA7516-1;\(dates);ntamx=10 in.{D}", more: "in A {B}\n", hosts: two,
                verdicts: apart("refuse dane-required")),
            nta(
                "host-mismatch", "nor one whose TLSA records do not match",
                "v=NTA7516-1;\(dates);ntamx=10 in.{D}",
                more: "in A {B}\n_{P}._tcp.in TLSA 3 1 1 \(other)\n", hosts: two,
                verdicts: apart("defer tlsa-invalid")),
            nta(
                "host-absent", "a host without address is final", "v=NTA7516-1;\(dates);ntamx=10 none.{D}",
                verdicts: apart("refuse no-mail-host")),
            nta(
                "second-host", "the second host by preference where the first is down",
                "v=NTA7516-1;\(dates);ntamx=20 in.{D};ntamx=10 away.{D}", more: inbound + "away A {C}\n",
                hosts: two + [.down]),
            nta("none", "no record: as if the norm were not known", findings: [.ntaAbsent]),
            nta("other-text", "another TXT record is none", "v=spf1 -all", findings: [.ntaAbsent]),
            nta(
                "expired", "the last month is over",
                "v=NTA7516-1;startdate=2019-06;enddate=2020-01;ntamx=10 none.{D}", findings: [.ntaExpired]),
            nta(
                "not-yet-valid", "the first month is still to come",
                "v=NTA7516-1;startdate=2990-01;enddate=2999-12;ntamx=10 none.{D}", findings: [.ntaNotYetValid]
            ),
            nta(
                "two-records", "two records are none", "v=NTA7516-1;\(dates)",
                "v=NTA7516-1;\(dates);provider=Other", findings: [.ntaMalformed]),
            nta(
                "no-dates", "a record without dates is none", "v=NTA7516-1;ntamx=10 none.{D}",
                findings: [.ntaMalformed]),
            nta(
                "other-version", "another version is none", "v=NTA7516-2;\(dates);ntamx=10 none.{D}",
                findings: [.ntaMalformed]),
            nta(
                "bad-host", "a host that is an address spoils the record",
                "v=NTA7516-1;\(dates);ntamx=10 127.0.0.1", findings: [.ntaMalformed]),
            RecipientCase(
                name: "nta-unsigned", rule: "NTA 7516, a record in an answer that is not signed is anyone's",
                signing: .unsigned, zone: plain + "@ TXT \"v=NTA7516-1;\(dates);ntamx=10 none.{D}\"\n",
                verdicts: .trusted, findings: [.ntaInsecure]),
            RecipientCase(
                name: "nta-no-dane",
                rule: "NTA 7516, a valid record stands in for nothing: no TLSA records, no delivery",
                zone: plain + "@ TXT \"v=NTA7516-1;\(dates)\"\n", verdicts: .trusted,
                findings: [.ntaCapable, .daneAbsent]),
            RecipientCase(
                name: "nta-static-route",
                rule: "NTA 7516, an operator's route stands, and the record is looked up",
                zone:
                    "@ MX 10 nowhere\nmx A {A}\n_{P}._tcp.mx TLSA {3 1 1 A}\n@ TXT \"v=NTA7516-1;\(dates)\"\n",
                hosts: [MailHost(.worst)], route: "mx.{D}:{P}", verdicts: .dane, findings: [.ntaCapable]),
        ]
    }()
}
