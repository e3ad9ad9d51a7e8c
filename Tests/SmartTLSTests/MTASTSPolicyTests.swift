// RFC 8461 §3.2 and §4.1: what is a policy, and which hosts it allows.

import DNS
import Testing

@testable import SmartTLS

@Suite struct MTASTSPolicyTests {
    /// `line reason`, or `mode max_age mx…`.
    private static func read(_ text: String) -> String {
        do throws(MTASTSPolicyError) {
            let policy = try MTASTSPolicy(body: Array(text.utf8))
            let words = [policy.mode.rawValue, "\(policy.maxAge.components.seconds)"]
            return (words + policy.mx.map(\.description)).joined(separator: " ")
        } catch {
            #expect(error.resultType.rawValue == "sts-policy-invalid")
            return error.description
        }
    }

    private static let good = "version: STSv1\nmode: enforce\nmx: mail.example.nl\nmax_age: 604800\n"
    private static let key32 = String(repeating: "k", count: 32)

    static let rows: [(rule: String, text: String, says: String)] = [
        ("the plain case", good, "enforce 604800 mail.example.nl"),
        ("CRLF", good.replacing("\n", with: "\r\n"), "enforce 604800 mail.example.nl"),
        ("no end of the last line", String(good.dropLast()), "enforce 604800 mail.example.nl"),
        ("LF and CRLF mixed", good.replacing("STSv1\n", with: "STSv1\r\n"), "enforce 604800 mail.example.nl"),
        ("any order", "mx: a.nl\nmax_age:1\nmode:testing\nversion:STSv1", "testing 1 a.nl"),
        ("no space and much space", good.replacing(": ", with: ":  \t "), "enforce 604800 mail.example.nl"),
        (
            "space behind values and empty lines", good.replacing("\n", with: " \n\n"),
            "enforce 604800 mail.example.nl"
        ),
        ("several mx, in order", good + "mx: *.b.nl\nmx: c.nl", "enforce 604800 mail.example.nl *.b.nl c.nl"),
        ("case and a trailing dot", good + "mx: *.B.NL.", "enforce 604800 mail.example.nl *.b.nl"),
        ("an A-label", good + "mx: xn--caf-dma.nl", "enforce 604800 mail.example.nl xn--caf-dma.nl"),
        ("an unknown key", good + "x-new.key_1: é = : 1", "enforce 604800 mail.example.nl"),
        ("keys have cases: Mode is unknown", good + "Mode: nonsense", "enforce 604800 mail.example.nl"),
        ("the first mode counts", good + "mode: none", "enforce 604800 mail.example.nl"),
        (
            "a repeated one may say anything", good + "max_age: never\nversion: 2",
            "enforce 604800 mail.example.nl"
        ),
        ("none needs no mx", "version: STSv1\nmode: none\nmax_age: 86400", "none 86400"),
        ("none may have mx", "version: STSv1\nmode: none\nmx: a.nl\nmax_age: 86400", "none 86400 a.nl"),
        ("max_age 0", good.replacing("604800", with: "0"), "enforce 0 mail.example.nl"),
        (
            "max_age at its maximum", good.replacing("604800", with: "31557600"),
            "enforce 31557600 mail.example.nl"
        ),
        (
            "a larger max_age is the maximum", good.replacing("604800", with: "9999999999"),
            "enforce 31557600 mail.example.nl"
        ),
        ("leading zeros", good.replacing("604800", with: "0000000060"), "enforce 60 mail.example.nl"),
        (
            "eleven digits", good.replacing("604800", with: "00000000060"),
            "line 4: max_age is not a number of seconds"
        ),
        (
            "a negative max_age", good.replacing("604800", with: "-1"),
            "line 4: max_age is not a number of seconds"
        ),
        (
            "a broken max_age", good.replacing("604800", with: "1.5"),
            "line 4: max_age is not a number of seconds"
        ),
        ("another version", good.replacing("STSv1", with: "STSv2"), "line 1: the version is not STSv1"),
        ("case of the version", good.replacing("STSv1", with: "stsv1"), "line 1: the version is not STSv1"),
        (
            "another mode", good.replacing("enforce", with: "report"),
            "line 2: the mode is not enforce, testing or none"
        ),
        (
            "case of the mode", good.replacing("enforce", with: "Enforce"),
            "line 2: the mode is not enforce, testing or none"
        ),
        ("a U-label", good + "mx: café.nl", "line 5: mx is not a host name (in A-labels), nor '*.' and one"),
        (
            "a suffix of a draft", good + "mx: .example.nl",
            "line 5: mx is not a host name (in A-labels), nor '*.' and one"
        ),
        ("a bare wildcard", good + "mx: *", "line 5: mx is not a host name (in A-labels), nor '*.' and one"),
        (
            "a wildcard of nothing", good + "mx: *.",
            "line 5: mx is not a host name (in A-labels), nor '*.' and one"
        ),
        (
            "two wildcards", good + "mx: *.*.nl",
            "line 5: mx is not a host name (in A-labels), nor '*.' and one"
        ),
        (
            "a partial wildcard", good + "mx: m*.example.nl",
            "line 5: mx is not a host name (in A-labels), nor '*.' and one"
        ),
        (
            "two in one line", good + "mx: a.nl, b.nl",
            "line 5: mx is not a host name (in A-labels), nor '*.' and one"
        ),
        ("an empty value", good + "mx:", "line 5: not a line of the form 'key: value'"),
        ("no colon", "version: STSv1\nmode enforce", "line 2: not a line of the form 'key: value'"),
        ("a space before the colon", "version : STSv1", "line 1: not a line of the form 'key: value'"),
        (
            "a space before the key", "version: STSv1\n mode: none",
            "line 2: not a line of the form 'key: value'"
        ),
        ("a web page", "<!DOCTYPE html>\n<html>", "line 1: not a line of the form 'key: value'"),
        ("a control octet", good + "a: b\u{0}c", "line 5: not a line of the form 'key: value'"),
        (
            "a bare CR ends no line", "version: STSv1\rmode: none",
            "line 1: not a line of the form 'key: value'"
        ),
        ("a byte order mark", "\u{feff}" + good, "line 1: not a line of the form 'key: value'"),
        ("a key of 32", good + key32 + ": 1", "enforce 604800 mail.example.nl"),
        ("a key of 33", good + key32 + "k: 1", "line 5: not a line of the form 'key: value'"),
        ("nothing", "", "there is no version"),
        ("no version", good.replacing("version: STSv1\n", with: ""), "there is no version"),
        ("no mode", good.replacing("mode: enforce\n", with: ""), "there is no mode"),
        ("no max_age", good.replacing("max_age: 604800\n", with: ""), "there is no max_age"),
        ("no mx", good.replacing("mx: mail.example.nl\n", with: ""), "there is no mx"),
        ("no mx in testing", "version: STSv1\nmode: testing\nmax_age: 1", "there is no mx"),
        (
            "64 KB", good + String(repeating: "\n", count: 65536 - good.utf8.count),
            "enforce 604800 mail.example.nl"
        ),
        (
            "one more", good + String(repeating: "\n", count: 65537 - good.utf8.count),
            "the policy is larger than 64 KB"
        ),
    ]

    @Test(arguments: rows) func `a body is a policy, or has a fault on a line`(
        row: (rule: String, text: String, says: String)
    ) {
        #expect(Self.read(row.text) == row.says, "\(row.rule)")
    }

    @Test(arguments: [
        ("mail.example.nl", "mail.example.nl", true), ("mail.example.nl", "MAIL.Example.NL.", true),
        ("mail.example.nl", "a.mail.example.nl", false), ("mail.example.nl", "example.nl", false),
        ("*.example.nl", "mail.example.nl", true), ("*.EXAMPLE.nl", "Mail.example.NL", true),
        ("*.example.nl", "example.nl", false), ("*.example.nl", "a.b.example.nl", false),
        ("*.example.nl", "mailexample.nl", false), ("*.example.nl", "mail.example.nl.evil.nl", false),
        ("*.nl", "example.nl", true), ("*.nl", "mail.example.nl", false),
    ])
    func `a wildcard covers exactly one label`(pattern: String, host: String, matches: Bool) throws {
        let text = "version: STSv1\nmode: enforce\nmax_age: 1\nmx: \(pattern)\n"
        let policy = try MTASTSPolicy(body: Array(text.utf8))
        #expect(policy.matches(host: try DomainName(host)) == matches, "\(pattern) \(host)")
    }

    @Test func `any of the patterns may match`() throws {
        let text = Self.good + "mx: *.backup.nl\n"
        let policy = try MTASTSPolicy(body: Array(text.utf8))
        #expect(policy.matches(host: try DomainName("mail.example.nl")))
        #expect(policy.matches(host: try DomainName("one.backup.nl")))
        #expect(!policy.matches(host: try DomainName("mail.evil.nl")))
    }
}
