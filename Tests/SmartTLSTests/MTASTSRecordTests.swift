// RFC 8461 §3.1: which answers at `_mta-sts.<domain>` name a policy.

import DNS
import Testing

@testable import SmartTLS

@Suite struct MTASTSRecordTests {
    typealias Row = (rule: String, records: [String], says: MTASTSRecord.Outcome)

    /// A record whose strings are divided by `|`.
    static func txt(_ text: String) -> DNSRecord {
        .txt(text.split(separator: "|", omittingEmptySubsequences: false).map { Array($0.utf8) })
    }

    private static func id(_ text: String) -> MTASTSRecord.Outcome { .record(MTASTSRecord(id: text)) }
    private static let long = String(repeating: "a", count: 32)

    static let rows: [Row] = [
        ("the example of §3.1", ["v=STSv1; id=20160831085700Z;"], id("20160831085700Z")),
        ("no delimiter at the end", ["v=STSv1;id=1"], id("1")),
        ("space around delimiters", ["v=STSv1 \t; \t id=1 ; "], id("1")),
        ("the strings are joined without a space", ["v=ST|Sv1; i|d=20|26;"], id("2026")),
        ("an empty string joins too", ["|v=STSv1;|| id=9;|"], id("9")),
        ("an extension behind", ["v=STSv1; id=1; x-y.z_0=a:b,c"], id("1")),
        ("an extension before: order does not matter", ["v=STSv1; ext=1; id=2;"], id("2")),
        ("case of the id is kept", ["v=STSv1; id=aB9"], id("aB9")),
        ("an id of 32", ["v=STSv1; id=\(long)"], id(long)),
        ("the first id counts", ["v=STSv1; id=1; id=2"], id("1")),
        ("other TXT records are ignored", ["v=spf1 -all", "v=STSv1; id=1;", ""], id("1")),
        ("v=STSv12 is another version", ["v=STSv12; id=2", "v=STSv1; id=1"], id("1")),
        ("no record", [], .absent(.noRecord)),
        ("only others", ["v=spf1 -all", "STSv1"], .absent(.noRecord)),
        ("the version alone has no delimiter", ["v=STSv1"], .absent(.noRecord)),
        ("case of the version", ["v=stsv1; id=1"], .absent(.noRecord)),
        ("case of the tag", ["V=STSv1; id=1"], .absent(.noRecord)),
        ("space before the version", [" v=STSv1; id=1"], .absent(.noRecord)),
        ("the version is not first", ["id=1; v=STSv1;"], .absent(.noRecord)),
        ("two records are none", ["v=STSv1; id=1", "v=STSv1; id=2"], .absent(.severalRecords)),
        ("two equal records are none", ["v=STSv1; id=1", "v=STSv1; id=1"], .absent(.severalRecords)),
        ("a valid and a broken one are two", ["v=STSv1; id=1", "v=STSv1;"], .absent(.severalRecords)),
        ("no id", ["v=STSv1;"], .absent(.malformed(.noID))),
        ("only an extension", ["v=STSv1; ID=1"], .absent(.malformed(.noID))),
        ("an empty id", ["v=STSv1; id=;"], .absent(.malformed(.invalidID))),
        ("an id of 33", ["v=STSv1; id=\(long)a"], .absent(.malformed(.invalidID))),
        ("an id with a hyphen", ["v=STSv1; id=2026-01"], .absent(.malformed(.invalidID))),
        ("an id with a letter outside ASCII", ["v=STSv1; id=é"], .absent(.malformed(.invalidID))),
        ("a space after =", ["v=STSv1; id= 1"], .absent(.malformed(.invalidID))),
        ("a space before =", ["v=STSv1; id =1"], .absent(.malformed(.invalidField))),
        ("two delimiters", ["v=STSv1;; id=1"], .absent(.malformed(.invalidField))),
        ("two delimiters at the end", ["v=STSv1; id=1;;"], .absent(.malformed(.invalidField))),
        ("no =", ["v=STSv1; id=1; word"], .absent(.malformed(.invalidField))),
        ("= in a value", ["v=STSv1; id=1; a=b=c"], .absent(.malformed(.invalidField))),
        ("a space in a value", ["v=STSv1; id=1; a=b c"], .absent(.malformed(.invalidField))),
        ("an empty value", ["v=STSv1; id=1; a="], .absent(.malformed(.invalidField))),
        ("a name of 33", ["v=STSv1; id=1; \(long)a=1"], .absent(.malformed(.invalidField))),
    ]

    @Test(arguments: rows) func `an answer names one policy or none`(row: Row) {
        #expect(MTASTSRecord.read(row.records.map(Self.txt)) == row.says, "\(row.rule)")
    }

    @Test func `records of other types are passed over`() throws {
        let alias = DNSRecord.cname(try DomainName("sts.example.net"))
        #expect(MTASTSRecord.read([alias, Self.txt("v=STSv1; id=1")]) == Self.id("1"))
    }
}
