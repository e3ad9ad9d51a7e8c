// The commands of docs/events.md, run as they stand there.
import Foundation
import Testing

@testable import API

@Suite("docs/events.md", .timeLimit(.minutes(1)))
struct DocumentedCommandsTests {
    @Test("every command on the page works, in order")
    func commands() async throws {
        let page = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appendingPathComponent("docs/events.md")
        let text = try String(contentsOf: page, encoding: .utf8)
        let blocks = text.components(separatedBy: "```sh\n").dropFirst().compactMap {
            $0.components(separatedBy: "```").first
        }
        try #require(blocks.count == 3)
        let fixture = try await APIFixture.make()
        let key = try await fixture.apiKey(tenant: "demo")
        let id = try await fixture.accept().uuidString.lowercased()
        try await fixture.serving { api in
            _ = try await api.client(key).events(atLeast: 1)
            let curl = try Curl(api)
            var answers: [String] = []
            for block in blocks { answers.append(try await curl.shell(block, key: key.text)) }
            #expect(answers[0].contains(#""kind":"accepted""#) && answers[0].contains(id))
            #expect(answers[1].hasPrefix(#"{"events":[],"next":""#), "\(answers[1])")
            #expect(
                answers[2].contains(#""return_path":"a@demo.test""#) && answers[2].contains(id),
                "\(answers[2])")
        }
    }
}
