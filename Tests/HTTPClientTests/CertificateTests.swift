// A certificate that does not pass ends the connection before there is a request on it, and the error says what is wrong.

import Foundation
import HTTPClient
import Lab
import TLS
import Testing

@Suite struct CertificateTests {
    enum Fault: String, CaseIterable, Sendable {
        case selfSigned, expired, notYetValid, wrongName, unknownRoot, missingIntermediate, wrongPurpose,
            commonNameOnly
    }

    private func identity(_ fault: Fault, _ authority: TestAuthority) throws -> TestIdentity {
        let host = ClientFixture.host
        return switch fault {
        case .selfSigned: try TestAuthority.selfSigned([host])
        case .expired: try authority.issue([host], from: .now - 7200, to: .now - 3600)
        case .notYetValid: try authority.issue([host], from: .now + 3600, to: .now + 7200)
        case .wrongName: try authority.issue(["other.test"])
        case .unknownRoot: try TestAuthority(name: "Another Root").intermediate().issue([host])
        case .missingIntermediate: try authority.intermediate().issue([host], presentsIssuers: false)
        case .wrongPurpose: try authority.issue([host], usage: .client)
        case .commonNameOnly: try authority.issue(["other.test"], commonName: host)
        }
    }

    @Test(arguments: Fault.allCases, ["h2", "http/1.1"])
    func `a certificate that does not pass gets no request`(fault: Fault, alpn: String) async throws {
        let fixture = try ClientFixture()
        let server = try await ScriptedTLSServer.start(
            try fixture.server(identity(fault, fixture.authority), alpn: [alpn]), [])
        let error = try #require(
            await fixture.client().failure("https://\(ClientFixture.host):\(server.port)/secret"))
        #expect(error.code == .certificateRejected)
        let kinds = error.chainFaults.map(\.kind)
        switch fault {
        case .selfSigned: #expect(kinds == [.selfSigned])
        case .expired: #expect(kinds == [.expired])
        case .notYetValid: #expect(kinds == [.notYetValid])
        case .wrongName, .commonNameOnly: #expect(kinds.isEmpty && error.nameMatched == false)
        case .unknownRoot: #expect(kinds.contains(.unknownIssuer))
        case .missingIntermediate: #expect(kinds.contains(.missingIntermediate))
        case .wrongPurpose: #expect(kinds == [.wrongPurpose])
        }
        #expect(error.evidence?.chain.isEmpty == false)
        #expect(!error.reason.isEmpty && !error.advice.isEmpty)
        try await eventually("the connection ends") { server.transcript.open == 0 }
        #expect(server.transcript.connections == 1)
        #expect(server.transcript.received.isEmpty)
        try await server.stop()
    }

    @Test func `a server below TLS 1.2, or that is none, is a TLS failure`() async throws {
        let fixture = try ClientFixture()
        let host = try await ScriptedSMTPServer.start()
        let port = try #require(try host.address.port)
        let error = try #require(await fixture.client().failure("https://\(ClientFixture.host):\(port)/"))
        #expect(error.code == .tlsFailure)
        #expect(error.address?.description == "127.0.0.1")
        try await host.stop()
    }

    @Test func `an address in the URL must stand in the certificate`() async throws {
        let fixture = try ClientFixture()
        let answer = TLSScriptStep.send(Array("HTTP/1.1 204 No Content\r\n\r\n".utf8))
        let good = try await ScriptedTLSServer.start(
            try fixture.server(fixture.authority.issue(["127.0.0.1"]), alpn: []), [.awaitRequest(1), answer])
        let other = try await ScriptedTLSServer.start(
            try fixture.server(alpn: []), [.awaitRequest(1), answer])
        let client = try fixture.client()
        #expect(try await client.get("https://127.0.0.1:\(good.port)/").status == 204)
        #expect(
            await client.failure("https://127.0.0.1:\(other.port)/")?.code == .certificateRejected)
        client.shutDown()
        try await good.stop()
        try await other.stop()
    }
}
