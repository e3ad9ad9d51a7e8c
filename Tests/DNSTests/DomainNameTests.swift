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
        ("mx.example.org", true), ("192.0.2.1", false), (".", false), ("a_b.example", true),
        ("1.example", true),
        ("example.1", false),
    ])
    func `an address or the root is no host name`(text: String, isHost: Bool) throws {
        #expect(try DomainName(text).isHostName == isHost)
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
