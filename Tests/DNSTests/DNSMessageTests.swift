// Reading a DNS message: what it says, and that no octets make it loop, crash or claim what is not there.

import Testing

@testable import DNS

@Suite struct DNSMessageTests {
    /// A response to `a.test MX` with these answer octets.
    static func message(_ count: UInt16, _ answers: [UInt8], code: UInt8 = 0) -> [UInt8] {
        [0, 1, 0x81, 0x80 | code, 0, 1, UInt8(count >> 8), UInt8(count & 255), 0, 0, 0, 0]
            + [1, 0x61, 4] + Array("test".utf8) + [0, 0, 15, 0, 1] + answers
    }

    static let owner: [UInt8] = [0xC0, 12, 0, 15, 0, 1, 0, 0, 0, 60]

    @Test("a compressed name in the data is written out")
    func compression() throws {
        let bytes = Self.message(1, Self.owner + [0, 7, 0, 10, 2, 0x6D, 0x78, 0xC0, 12])
        let name = try DomainName("a.test")
        let read = try #require(try DNSMessage(bytes).outcome(of: name, .mx))
        #expect(read.outcome == .records([.mx(preference: 10, exchange: try DomainName("mx.a.test"))]))
    }

    @Test(
        "an absence is what the response code says",
        arguments: [(0, true), (3, true), (2, false), (5, false)])
    func absence(_ code: UInt8, _ isAnswer: Bool) throws {
        let read = try DNSMessage(Self.message(0, [], code: code)).outcome(of: try DomainName("a.test"), .mx)
        #expect((read != nil) == isAnswer)
        if code == 0 { #expect(read?.outcome == .nodata) }
        if code == 3 { #expect(read?.outcome == .nxdomain) }
    }

    @Test(
        "octets that are no message are refused",
        arguments: [
            ("empty", []), ("a header cut short", [0, 1, 0x81, 0x80, 0]),
            ("a query", [0, 1, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            ("two questions", [0, 1, 0x81, 0, 0, 2, 0, 0, 0, 0, 0, 0]),
            ("more answers than octets", message(3, owner + [0, 0])),
            ("a pointer to itself", message(1, [0xC0, 24])),
            ("a pointer that leads forward", message(1, [0xC0, 60])),
            ("two pointers in a circle", message(1, [0xC0, 26, 0xC0, 24, 0, 15])),
            ("a label of a reserved kind", message(1, [0x80, 1, 0, 15, 0, 1])),
            ("data that end too late", message(1, owner + [0, 200, 1])),
        ] as [(String, [UInt8])])
    func refused(_ rule: String, _ bytes: [UInt8]) {
        #expect(throws: DNSFailure.self, "\(rule)") { try DNSMessage(bytes) }
    }

    @Test("an alias to itself says nothing")
    func loop() throws {
        let bytes = Self.message(1, [0xC0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 2, 0xC0, 12])
        #expect(try DNSMessage(bytes).outcome(of: try DomainName("a.test"), .mx) == nil)
    }

    @Test("any octets end in a value or an error")
    func random() throws {
        let seed = UInt64.random(in: .min ... .max)
        var state = seed
        func next() -> UInt8 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return UInt8(truncatingIfNeeded: state >> 56)
        }
        let name = try DomainName("a.test")
        let sound = Self.message(1, Self.owner + [0, 7, 0, 10, 2, 0x6D, 0x78, 0xC0, 12])
        for _ in 0..<5_000 {
            var bytes = sound
            for _ in 0..<(1 + Int(next()) % 6) { bytes[Int(next()) % bytes.count] = next() }
            if next() < 64 { bytes.removeLast(Int(next()) % bytes.count) }
            _ = try? DNSMessage(bytes).outcome(of: name, .mx)
        }
    }
}
