// NTA 7516: which TXT records say that a domain takes part, when, and on which hosts.

import DNS
import Testing

@testable import SmartTLS

@Suite struct NTARecordTests {
    /// `start end provider host…`, with preferences before hosts, or the reason that there is none.
    private static func text(_ outcome: NTARecord.Outcome) -> String {
        guard case .record(let record) = outcome else {
            if case .absent(.malformed(let fault)) = outcome { return fault.rawValue }
            return if case .absent(let absence) = outcome { "\(absence)" } else { "" }
        }
        let hosts = record.exchanges.map { ($0.preference.map { "\($0)/" } ?? "") + $0.host.text }
        let words = [record.start.description, record.end.description, record.provider ?? "-"]
        return (words + hosts).joined(separator: " ")
    }

    private static func read(
        _ records: [String], _ security: DNSSecurity = .secure, year: Int = 2026, month: Int = 6
    ) throws -> String {
        let month = try #require(Month(year: year, month: month))
        return text(NTARecord.read(records.map(MTASTSRecordTests.txt), security: security, month: month))
    }

    private static let dates = "v=NTA7516-1;startdate=2026-01;enddate=2026-12"

    static let rows: [(rule: String, records: [String], says: String)] = [
        (
            "the norm's dialect", [dates + ";provider=X;ntamx=10 nta.example.nl"],
            "2026-01 2026-12 X 10/nta.example.nl"
        ),
        (
            "the older dialect",
            [
                "v=NTA7516;version:2026-01;expire:2026-10;provider:smartlockr;ntamx:mx.mail.de;ntamx:mx2.mail.de"
            ],
            "2026-01 2026-10 smartlockr mx.mail.de mx2.mail.de"
        ),
        ("strings are joined", ["v=NTA7516-1;start|date=2026-01;endd|ate=2026-12"], "2026-01 2026-12 -"),
        ("no ntamx: the ordinary MX", [dates + ";provider=X;"], "2026-01 2026-12 X"),
        ("`:` in the norm's dialect", [dates + ";ntamx:10 a.nl"], "2026-01 2026-12 - 10/a.nl"),
        ("`=` in the older one", ["v:NTA7516;version=2026-01;expire=2026-12"], "2026-01 2026-12 -"),
        (
            "space and cases",
            [" V = nta7516-1 ; StartDate = 2026-01 ;EndDate= 2026-12; NTAMX =  10   A.NL. ;"],
            "2026-01 2026-12 - 10/a.nl"
        ),
        (
            "by preference, not by text", [dates + ";ntamx=100 c.nl;ntamx=20 b.nl;ntamx=3 a.nl"],
            "2026-01 2026-12 - 3/a.nl 20/b.nl 100/c.nl"
        ),
        (
            "equals as published", [dates + ";ntamx=10 c.nl;ntamx=10 a.nl;ntamx=5 b.nl"],
            "2026-01 2026-12 - 5/b.nl 10/c.nl 10/a.nl"
        ),
        (
            "those without a preference last, as published",
            [dates + ";ntamx=z.nl;ntamx=65535 a.nl;ntamx=b.nl"],
            "2026-01 2026-12 - 65535/a.nl z.nl b.nl"
        ),
        ("an unknown field", [dates + ";extra=1"], "2026-01 2026-12 -"),
        ("a signs in a value", [dates + ";provider=A: B=C"], "2026-01 2026-12 A: B=C"),
        ("other records", ["v=spf1 -all", dates, "NTA7516"], "2026-01 2026-12 -"),
        ("its first month", ["v=NTA7516-1;startdate=2026-06;enddate=2026-06"], "2026-06 2026-06 -"),
        ("no record", ["v=spf1 -all"], "noRecord"),
        ("none at all", [], "noRecord"),
        ("v=NTA75160 is something else", ["v=NTA75160;startdate=2026-01"], "noRecord"),
        ("another version", ["v=NTA7516-2;startdate=2026-01;enddate=2026-12"], "unknownVersion"),
        ("two records", [dates, dates], "severalRecords"),
        ("one of each dialect", [dates, "v=NTA7516;version:2026-01;expire:2026-12"], "severalRecords"),
        ("still to come", ["v=NTA7516-1;startdate=2026-07;enddate=2026-12"], "notYetValid(2026-07)"),
        ("over", ["v=NTA7516-1;startdate=2026-01;enddate=2026-05"], "expired(2026-05)"),
        ("no start", ["v=NTA7516-1;enddate=2026-12"], "no start date of the form YYYY-MM"),
        ("no end", ["v=NTA7516-1;startdate=2026-01"], "no end date of the form YYYY-MM"),
        ("a day", ["v=NTA7516-1;startdate=2026-01-01;enddate=2026-12"], "no start date of the form YYYY-MM"),
        ("month 13", ["v=NTA7516-1;startdate=2026-13;enddate=2027-12"], "no start date of the form YYYY-MM"),
        ("month 0", ["v=NTA7516-1;startdate=2026-01;enddate=2026-00"], "no end date of the form YYYY-MM"),
        (
            "a short month", ["v=NTA7516-1;startdate=2026-1;enddate=2026-12"],
            "no start date of the form YYYY-MM"
        ),
        (
            "a sign in a month", ["v=NTA7516-1;startdate=2026-01;enddate=2026-+9"],
            "no end date of the form YYYY-MM"
        ),
        (
            "end before start", ["v=NTA7516-1;startdate=2026-07;enddate=2026-06"],
            "the end date is before the start date"
        ),
        ("a date twice", [dates + ";startdate=2026-01"], "a field that is there twice"),
        ("a date under both names", [dates + ";expire=2026-12"], "a field that is there twice"),
        ("no sign", [dates + ";word"], "a field that is not name=value"),
        ("an empty value", [dates + ";provider="], "a field that is not name=value"),
        ("a control octet", [dates + ";provider=a\u{0}b"], "a field that is not name=value"),
        ("no host", [dates + ";ntamx=10"], "an ntamx that is not a preference and a host name"),
        ("an address", [dates + ";ntamx=10 192.0.2.1"], "an ntamx that is not a preference and a host name"),
        ("the root", [dates + ";ntamx=0 ."], "an ntamx that is not a preference and a host name"),
        (
            "a preference too large", [dates + ";ntamx=65536 a.nl"],
            "an ntamx that is not a preference and a host name"
        ),
        (
            "a negative preference", [dates + ";ntamx=-1 a.nl"],
            "an ntamx that is not a preference and a host name"
        ),
        ("three words", [dates + ";ntamx=10 a.nl b.nl"], "an ntamx that is not a preference and a host name"),
        ("a U-label", [dates + ";ntamx=10 café.nl"], "an ntamx that is not a preference and a host name"),
        ("33 hosts", [dates + String(repeating: ";ntamx=a.nl", count: 33)], "too many ntamx"),
        (
            "5000 octets", [dates + ";provider=" + String(repeating: "x", count: 5000)],
            "the record is too large"
        ),
    ]

    @Test(arguments: rows) func `one valid record or none, with the reason`(
        row: (rule: String, records: [String], says: String)
    ) throws {
        #expect(try Self.read(row.records) == row.says, "\(row.rule)")
    }

    @Test(arguments: [
        (2025, 12, "notYetValid(2026-01)"), (2026, 1, "2026-01 2026-12 -"), (2026, 12, "2026-01 2026-12 -"),
        (2027, 1, "expired(2026-12)"),
    ])
    func `valid from the first month through the last`(year: Int, month: Int, says: String) throws {
        #expect(try Self.read([Self.dates], year: year, month: month) == says)
    }

    @Test func `an answer that is not secure names nobody's hosts`() throws {
        #expect(try Self.read([Self.dates], .insecure) == "insecureAnswer")
        #expect(try Self.read([Self.dates, Self.dates], .insecure) == "insecureAnswer")
        #expect(try Self.read(["v=spf1 -all"], .insecure) == "noRecord")
    }
}
