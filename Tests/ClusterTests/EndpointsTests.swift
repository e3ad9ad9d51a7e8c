// The shape of endpoints.json.

import Foundation
import Testing

@testable import Cluster

@Suite("endpoints.json keeps its shape: tools rely on it")
struct EndpointsTests {
    static let endpoints = Endpoints(
        ca: "/c/ca.pem", apiKey: "k", smtpUser: "demo", smtpPassword: "p",
        regions: [
            Endpoints.Region(
                name: "r1", smtp: ["127.0.0.1:1"], smtps: ["127.0.0.1:2"], api: "https://127.0.0.1:3",
                metrics: ["http://127.0.0.1:4"], postgres: ["postgresql://p@127.0.0.1:5/zegel"],
                pids: ["edge": [7]])
        ])

    @Test("names are those of the contract")
    func names() throws {
        let object =
            try JSONSerialization.jsonObject(with: Data(Self.endpoints.encoded().utf8)) as? [String: Any]
        #expect(object?.keys.sorted() == ["api_key", "ca", "regions", "smtp_password", "smtp_user"])
        let region = (object?["regions"] as? [[String: Any]])?.first
        #expect(region?.keys.sorted() == ["api", "metrics", "name", "pids", "postgres", "smtp", "smtps"])
        #expect((region?["pids"] as? [String: [Int]])?["edge"] == [7])
        #expect(
            Endpoints.roles == [
                "supervisor", "edge", "worker", "api", "keyring", "postgres", "patroni", "etcd",
            ])
    }

    @Test("only the owner reads it, and a reader never sees half of it")
    func file() async throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/endpoints.json"
        try Self.endpoints.save(path)
        #expect(try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int == 0o600)
        try await withThrowingTaskGroup { group in
            group.addTask { for _ in 0..<200 { try Self.endpoints.save(path) } }
            for _ in 0..<200 { #expect(try Endpoints.load(path) == Self.endpoints) }
            try await group.waitForAll()
        }
    }

    @Test("no cluster: the error says what to do")
    func missing() {
        #expect {
            try Endpoints.load("/nowhere/endpoints.json")
        } throws: { "\($0)".contains("zegel local up") }
    }
}
