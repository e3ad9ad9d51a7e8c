import SMTP
import Testing

/// Mail addresses, paths and domains: RFC 5321 §4.1.2, §4.1.3, §4.5.3.1; RFC 6531 §3.3.
@Suite("Addresses") struct AddressTests {
    struct Accepted: Sendable, CustomTestStringConvertible {
        let rule: String
        let text: String
        let lane: String
        var unquoted: String?
        var testDescription: String { rule }
    }

    @Test(arguments: [
        Accepted(rule: "§4.1.2: dot-string", text: "Jan.de-Vries+tag@Example.ORG", lane: "example.org"),
        Accepted(rule: "§4.1.2: every atext", text: "!#$%&'*+-/=?^_`{|}~@a.test", lane: "a.test"),
        Accepted(
            rule: "§4.1.2: quoted string", text: "\"a b@c>\"@a.test", lane: "a.test", unquoted: "a b@c>"),
        Accepted(rule: "§4.1.2: quoted pair", text: "\"a\\\"b\"@a.test", lane: "a.test", unquoted: "a\"b"),
        Accepted(rule: "§4.1.2: one label", text: "a@localhost", lane: "localhost"),
        Accepted(rule: "§4.1.3: IPv4 literal", text: "a@[192.0.2.1]", lane: "[192.0.2.1]"),
        Accepted(rule: "§4.1.3: IPv6 literal", text: "a@[IPv6:2001:DB8:0::1]", lane: "[ipv6:2001:db8::1]"),
        Accepted(
            rule: "RFC 6531: U-label becomes A-label", text: "a@Bücher.example", lane: "xn--bcher-kva.example"
        ),
        Accepted(
            rule: "RFC 6531: U-label, not composed", text: "a@Bu\u{308}cher.test", lane: "xn--bcher-kva.test"),
        Accepted(
            rule: "RFC 3492 §7.1 (L)", text: "a@3年b組金八先生.test", lane: "xn--3b-ww4c5e180e575a65lsy2b.test"),
        Accepted(rule: "RFC 6531: local part", text: "имя@a.test", lane: "a.test"),
        Accepted(
            rule: "§4.5.3.1.1: 64 octets of local part", text: String(repeating: "a", count: 64) + "@a.test",
            lane: "a.test"),
    ])
    func accepted(_ row: Accepted) throws {
        let address = try MailAddress(row.text)
        #expect(address.description == row.text)
        #expect(address.lane == row.lane)
        if let unquoted = row.unquoted { #expect(address.unquotedLocalPart == unquoted) }
        #expect(try MailAddress(address.description) == address)
    }

    struct Refused: Sendable, CustomTestStringConvertible {
        let rule: String
        let text: String
        let code: AddressError.Code
        var testDescription: String { rule }
    }

    @Test(arguments: [
        Refused(rule: "empty", text: "", code: .localPartSyntax),
        Refused(rule: "no domain", text: "a", code: .domainMissing),
        Refused(rule: "empty domain", text: "a@", code: .domainSyntax),
        Refused(rule: "leading dot", text: ".a@b.test", code: .localPartSyntax),
        Refused(rule: "two dots", text: "a..b@b.test", code: .localPartSyntax),
        Refused(rule: "space", text: "a b@b.test", code: .domainMissing),
        Refused(rule: "open quote", text: "\"a@b.test", code: .localPartSyntax),
        Refused(rule: "control in quotes", text: "\"a\u{1}\"@b.test", code: .localPartSyntax),
        Refused(rule: "label starts with hyphen", text: "a@-b.test", code: .domainSyntax),
        Refused(rule: "label ends with hyphen", text: "a@b-.test", code: .domainSyntax),
        Refused(rule: "trailing dot", text: "a@b.test.", code: .domainSyntax),
        Refused(rule: "second at", text: "a@b@c.test", code: .domainSyntax),
        Refused(rule: "literal without address", text: "a@[b]", code: .literalSyntax),
        Refused(rule: "literal out of range", text: "a@[300.1.1.1]", code: .literalSyntax),
        Refused(
            rule: "§4.5.3.1.1: 65 octets of local part", text: String(repeating: "a", count: 65) + "@b.test",
            code: .localPartTooLong),
        Refused(
            rule: "§4.5.3.1.2: 256 octets of domain",
            text: "a@" + Array(repeating: "abcdefg", count: 33).joined(separator: "."), code: .domainTooLong),
        Refused(
            rule: "RFC 1035 §2.3.4: label of 64 octets", text: "a@" + String(repeating: "b", count: 64),
            code: .domainTooLong),
    ])
    func refused(_ row: Refused) {
        #expect(throws: AddressError(row.code)) { try MailAddress(row.text) }
    }

    @Test("Octets that are not UTF-8 are no address")
    func notUTF8() {
        #expect(throws: AddressError(.notUTF8)) { try MailAddress(octets: [0x61, 0xFF, 0x40, 0x62]) }
    }

    @Test("Equal is what means the same: domain in any case, needless quotes")
    func equality() throws {
        #expect(try MailAddress("\"a\"@B.test") == MailAddress("a@b.TEST"))
        #expect(try MailAddress("A@b.test") != MailAddress("a@b.test"))
        #expect(try MailAddress("\"a\"@B.test").hashValue == MailAddress("a@b.TEST").hashValue)
    }

    @Test("RFC 5321 §4.1.1.3: a source route is accepted and dropped")
    func sourceRoute() throws {
        #expect(try ForwardPath("<@a.test,@b.test:c@d.test>").description == "<c@d.test>")
        #expect(throws: AddressError.self) { try ForwardPath("<@a.test,b:c@d.test>") }
    }

    @Test("RFC 5321 §4.5.5: the null path; §4.5.1: postmaster")
    func special() throws {
        #expect(try ReversePath("<>") == .null)
        #expect(try ForwardPath("<PostMaster>") == .postmaster)
        #expect(throws: AddressError.self) { try ForwardPath("<>") }
        #expect(throws: AddressError.self) { try ReversePath("a@b.test") }
        #expect(throws: AddressError.self) { try ReversePath("<a@b.test> ") }
    }
}
