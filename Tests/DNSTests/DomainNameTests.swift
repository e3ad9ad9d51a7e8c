// Names have one form, and bytes from the network never crash the reader.

import Lab
import Testing

@testable import DNS

@Suite struct DomainNameTests {
    @Test(arguments: [
        ("Example.ORG", "example.org"), ("example.org.", "example.org"), (".", "."), ("a", "a"),
        ("_25._tcp.mx.example.org", "_25._tcp.mx.example.org"), ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"), ("xn--bcher-kva.EXAMPLE", "xn--bcher-kva.example"),
        ("faß.de", "xn--fa-hia.de"), ("例え.jp", "xn--r8jz45g.jp"), ("a。b", "a.b"),
    ])
    func `a name has one form: lower-case A-labels without the last dot`(text: String, form: String) throws {
        #expect(try DomainName(text).text == form)
    }

    @Test(arguments: [
        "", "..", "a..b", ".a", "a b", "a/b", "ü/b", "ü@b", "ü:80", "ü%41", "a\u{0}b", "[192.0.2.1]", "a\\.b",
        String(repeating: "a", count: 64), String(repeating: "a.", count: 127) + "a",
        String(repeating: "ü", count: 2000),
    ])
    func `what is no name is refused`(text: String) {
        #expect(throws: DomainNameError.self) { try DomainName(text) }
    }

    @Test(arguments: [
        ("MX.Example.Org.", "mx.example.org"), (".", "."), ("a/b.test", "a/b.test"),
        ("a\\.b.test.", "a\\.b.test"), ("\\097\\000.test.", "a\\000.test"), ("*.test", "*.test"), ("", "."),
    ])
    func `a name that is written down keeps odd octets, as in DNS data`(text: String, form: String) throws {
        let name = try DomainName(presentation: text)
        #expect(name.text == form)
        #expect(try DomainName(presentation: name.text) == name)
    }

    @Test(arguments: ["a..b", ".a", "a\\", "a\\25", "a\\999.b", String(repeating: "a", count: 64)])
    func `what no name is written as is refused`(text: String) {
        #expect(throws: DomainNameError.self) { try DomainName(presentation: text) }
    }

    @Test(arguments: [
        ("mx.example.org", true), ("a", true), (".", false),
        // RFC 1123 §2.1: a label may begin with a digit or be one; a last label of digits is an address.
        ("1.example", true), ("3com.example", true), ("example.1", false), ("192.0.2.1", false),
        // RFC 952, RFC 5321 §4.1.2: `-` stands between letters and digits, in any label.
        ("a-b.example", true), ("a--b.example", true), ("xn--bcher-kva.example", true),
        ("bücher.example", true),
        ("-", false), ("--", false), ("-.example", false), ("mx.-", false), ("-a.example", false),
        ("a-.example", false), ("mx.-a.example", false), ("mx.a-.example", false), ("mx.example.-a", false),
        ("mx.example.a-", false), ("-a-", false),
        // Hosts have names with `_`, whatever the RFCs say; it stands at an edge as well.
        ("a_b.example", true), ("_a.example", true), ("a_.example", true),
    ])
    func `a host name has no hyphen at the edge of a label, and is neither an address nor the root`(
        text: String, isHost: Bool
    ) throws {
        #expect(try DomainName(text).isHostName == isHost)
    }

    @Test(arguments: ["_25._tcp", "_mta-sts", "_smtp._tls", "-a.example", "a-.example", "-"])
    func `a name that is no host's is a name all the same, in text and in messages`(text: String) throws {
        let name = try DomainName(text)
        let labels = text.split(separator: ".").flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) }
        var position = 0
        #expect(try DomainName(wire: labels + [0], at: &position) == name)
        #expect(try DomainName("mx.example.org").below(text)?.text == "\(text).mx.example.org")
    }

    @Test func `253 characters fit`() throws {
        let label = String(repeating: "a", count: 63)
        let name = [label, label, label, String(repeating: "b", count: 61)].joined(separator: ".")
        #expect(try DomainName(name).text.utf8.count == 253)
        #expect(throws: DomainNameError.self) { try DomainName(name + "b") }
    }

    @Test func `record data of random octets is read or refused, never more`() {
        let seed = UInt64.random(in: 0 ... .max)
        print("seed \(seed)")
        var random = SplitMix(seed)
        func next() -> UInt64 { random.next() }
        let types: [DNSRecordType] = [
            .a, .aaaa, .mx, .cname, .ns, .txt, .tlsa, .soa, DNSRecordType(rawValue: 99),
        ]
        for _ in 0..<20_000 {
            let data = (0..<Int(next() % 40)).map { _ in
                UInt8(truncatingIfNeeded: next() % (next() % 2 == 0 ? 8 : 256))
            }
            let type = types[Int(next() % UInt64(types.count))]
            if let record = try? DNSRecord(type: type, data: data), case .mx(_, let exchange) = record {
                #expect(!exchange.text.isEmpty)
            }
        }
    }

    @Test(arguments: [
        (DNSRecordType.a, [UInt8]([1, 2, 3])), (.aaaa, [1, 2, 3, 4]), (.mx, [0, 10]), (.mx, [0, 10, 3, 97]),
        (.mx, [0, 10, 1, 97, 0, 0]), (.txt, [5, 97]), (.tlsa, [3, 1]), (.cname, [0xc0, 0x0c]),
        (.soa, [0, 0, 1]),
    ])
    func `data that is not what its type says is a failure, not an absence`(
        type: DNSRecordType, data: [UInt8]
    ) {
        #expect(throws: DNSFailure.self) { try DNSRecord(type: type, data: data) }
    }

    @Test(arguments: ["192.0.2.1", "2001:db8::1", "::1", "0.0.0.0"])
    func `addresses keep their text`(text: String) {
        #expect(IPAddress(text)?.description == text)
    }

    @Test(arguments: ["192.0.2", "192.0.2.256", "2001:db8::1%eth0", "[::1]", "", "example.org", "0x7f.1"])
    func `what is no address is refused`(text: String) {
        #expect(IPAddress(text) == nil)
    }
}
