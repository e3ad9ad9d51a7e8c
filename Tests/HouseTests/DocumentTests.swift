// The documents that the tree promises are there, and say what is so.

import Foundation
import Testing

@Suite struct DocumentTests {
    @Test(arguments: [
        "README.md", "LICENSE", "CHANGELOG.md", "docs/architecture.md", "docs/decisions.md", "docs/limits.md",
        "docs/configuration.md", "docs/sealed-format.md", "docs/verdicts.md", "docs/agreement.md",
        "docs/how-a-verdict-is-reached.md", "docs/evidence.md", "docs/events.md", "docs/regions.md",
        "deploy/alerts/regions.yml",
    ])
    func `the document is there`(path: String) {
        #expect((House.text(path)?.count ?? 0) > 500, "\(path)")
    }

    @Test(arguments: [".ci/run", "deploy/test", "deploy/fuzz", "deploy/quickstart", "deploy/bench-peers"])
    func `the program can be run`(path: String) {
        #expect(
            FileManager.default.isExecutableFile(atPath: House.root.appending(path: path).path), "\(path)")
    }

    @Test func `the architecture names every target and no other`() throws {
        let text = try #require(House.text("docs/architecture.md"))
        for target in try House.targets() where target.kind != ".testTarget(" {
            #expect(text.contains("`\(target.name)`"), "\(target.name)")
        }
    }

    @Test func `the layers in the architecture are those that the test holds`() throws {
        let text = try #require(House.text("docs/architecture.md"))
        let known = Set(try House.targets().map(\.name))
        var position = text.startIndex
        for layer in TargetGraphTests.layers.reversed() {
            let row = "| " + layer.filter(known.contains).map { "`\($0)`" }.joined(separator: " · ") + " |"
            let range = try #require(text.range(of: row, range: position..<text.endIndex), "\(row)")
            position = range.upperBound
        }
    }

    @Test func `alerts rest on metrics that the nodes have, and each says what it means and what to do`()
        throws
    {
        let text = try #require(House.text("deploy/alerts/regions.yml"))
        let sources = try House.files(below: "Sources", suffix: ".swift").map(\.text).joined()
        let shown = Set(text.matches(of: /zegel_[a-z_]+/).map { String($0.output) })
        #expect(shown.count > 5)
        for name in shown {
            // Those of a shard are named by their ends.
            let end = name.replacing(/^zegel_(shard|member)_/, with: "")
            #expect(
                sources.contains("\"\(name)\"") || (end != name && sources.contains("gauge(\"\(end)\"")),
                "\(name)")
        }
        let alerts = text.components(separatedBy: "- alert:").dropFirst()
        for alert in alerts {
            for part in ["expr:", "severity:", "summary:", "description:"] {
                #expect(alert.contains(part), "\(alert)")
            }
        }
    }

    @Test func `links between documents lead somewhere`() throws {
        let documents =
            try House.files(below: "docs", suffix: ".md")
            + ["README.md", "CHANGELOG.md"].compactMap { path in
                House.text(path).map { HouseFile(path: path, text: $0) }
            }
        for document in documents {
            let folder = House.root.appending(path: document.path).deletingLastPathComponent()
            for match in document.text.matches(of: #/\]\(([^)#]+)(#[^)]*)?\)/#) {
                let link = String(match.output.1)
                if link.contains("://") || link.hasPrefix("mailto:") { continue }
                let target = folder.appending(path: link).standardized.path
                #expect(FileManager.default.fileExists(atPath: target), "\(document): \(link)")
                guard let anchor = match.output.2?.dropFirst(),
                    let text = try? String(contentsOfFile: target, encoding: .utf8)
                else { continue }
                #expect(House.anchors(text).contains(String(anchor)), "\(document): \(link)#\(anchor)")
            }
        }
    }

    @Test func `every integration run is in the table, with a limit, and can be run`() throws {
        let folder = House.root.appending(path: "Tests/Integration")
        let table = try #require(House.text("Tests/Integration/table"))
        var listed: Set<String> = []
        for line in table.split(separator: "\n") where !line.hasPrefix("#") {
            let words = line.split(separator: " ", omittingEmptySubsequences: true)
            let name = String(try #require(words.dropFirst().first, "\(line)"))
            #expect(Int(words[0]).map { (5...1200).contains($0) } == true, "\(line)")
            #expect(
                FileManager.default.isExecutableFile(atPath: folder.appending(path: name).path), "\(name)")
            listed.insert(name)
        }
        let programs = try FileManager.default.contentsOfDirectory(atPath: folder.path).filter { name in
            (name.hasSuffix(".py") || name.hasSuffix(".sh"))
                && FileManager.default.isExecutableFile(atPath: folder.appending(path: name).path)
        }
        #expect(Set(programs).subtracting(listed).isEmpty)
    }
}
