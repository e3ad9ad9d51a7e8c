// The ClientHello of the probe, octet by octet.

import Lab
import Testing

@testable import SmartTLS

@Suite struct ClientHelloTests {
    private struct Parsed {
        var recordVersion = 0
        var version = 0
        var sessionID = 0
        var suites: [UInt16] = []
        var compression: [UInt8] = []
        var extensions: [UInt16: [UInt8]] = [:]
        var length = 0
    }

    private static func parse(_ hello: ClientHello) throws -> Parsed {
        var generator = SplitMix(1)
        let octets = hello.record(using: &generator)
        var parsed = Parsed()
        var record = WireReader(octets[...])
        #expect(try record.number(1) == 22)
        parsed.recordVersion = try record.number(2)
        var message = WireReader(try record.vector(2))
        #expect(try message.number(1) == 1)
        let content = try message.vector(3)
        #expect(record.isAtEnd && message.isAtEnd)
        parsed.length = content.count + 4
        var body = WireReader(content)
        parsed.version = try body.number(2)
        _ = try body.take(32)
        parsed.sessionID = try body.vector(1).count
        var suites = WireReader(try body.vector(2))
        while !suites.isAtEnd { parsed.suites.append(try suites.code()) }
        parsed.compression = Array(try body.vector(1))
        if !body.isAtEnd {
            var list = WireReader(try body.vector(2))
            while !list.isAtEnd { parsed.extensions[try list.code()] = Array(try list.vector(2)) }
        }
        #expect(body.isAtEnd)
        return parsed
    }

    @Test func `TLS 1.3: no key share, so that the server names a group`() throws {
        let hello = try Self.parse(
            ClientHello(
                versions: .tls13 ... .tls13, suites: [0x1301], groups: [29, 0x11ec], serverName: "mx.nl"))
        #expect(hello.recordVersion == 0x0301 && hello.version == 0x0303 && hello.sessionID == 32)
        #expect(hello.suites == [0x1301] && hello.compression == [0])
        #expect(hello.extensions[43] == [2, 3, 4] && hello.extensions[51] == [0, 0])
        #expect(hello.extensions[10] == [0, 4, 0, 29, 0x11, 0xec])
        #expect(hello.extensions[0] == [0, 8, 0, 0, 5] + Array("mx.nl".utf8))
        #expect(hello.extensions[13] != nil && hello.extensions[23] == nil && hello.extensions[0xff01] == nil)
    }

    @Test func `TLS 1.2 offers compression, secure renegotiation and the extended master secret`() throws {
        let hello = try Self.parse(
            ClientHello(versions: .tls12 ... .tls12, suites: [0xc02f, 0x002f], groups: [23], serverName: nil))
        #expect(hello.version == 0x0303 && hello.sessionID == 0 && hello.compression == [1, 0])
        #expect(
            hello.extensions[23] == [] && hello.extensions[0xff01] == [0] && hello.extensions[11] == [1, 0])
        #expect(hello.extensions[0] == nil && hello.extensions[43] == nil && hello.extensions[51] == nil)
    }

    @Test func `what is not to be offered is not`() throws {
        var hello = ClientHello(versions: .tls10 ... .tls10, suites: [5], groups: [], serverName: nil)
        hello.offersCompression = false
        hello.offersExtendedMasterSecret = false
        let parsed = try Self.parse(hello)
        #expect(parsed.compression == [0] && parsed.extensions[23] == nil && parsed.extensions[10] == nil)
        #expect(parsed.extensions[13] == nil, "RFC 5246 §7.4.1.4.1: from TLS 1.2 on")
    }

    @Test func `SSL 3: no extensions, the signal of RFC 5746 among the suites`() throws {
        let hello = try Self.parse(
            ClientHello(versions: .ssl3 ... .ssl3, suites: [10], groups: [23], serverName: "mx.nl"))
        #expect(hello.recordVersion == 0x0300 && hello.version == 0x0300 && hello.extensions.isEmpty)
        #expect(hello.suites == [10, 0x00ff])
    }

    @Test func `a range of versions is listed, the newest first`() throws {
        let hello = try Self.parse(
            ClientHello(versions: .tls11 ... .tls13, suites: [0x1301, 0xc02f], groups: [29], serverName: nil))
        #expect(hello.extensions[43] == [6, 3, 4, 3, 3, 3, 2] && hello.extensions[23] == [])
    }

    @Test func `RFC 7685: no message of 256 to 511 octets`() throws {
        for count in 0..<300 {
            let suites = CipherSuite.all.prefix(count).map(\.code)
            let hello = ClientHello(
                versions: .tls12 ... .tls12, suites: suites, groups: [23], serverName: "a.nl")
            let parsed = try Self.parse(hello)
            #expect(!(256...511).contains(parsed.length), "\(count) suites")
            #expect(parsed.suites == suites)
        }
    }
}
