// Which addresses may be connected to.

import DNS
import Testing

@testable import HTTPClient

@Suite struct AddressPolicyTests {
    @Test(arguments: [
        "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1",
        "127.255.255.254", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1",
        "192.88.99.1", "192.168.0.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1",
        "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
        "::", "::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:10.0.0.1", "::127.0.0.1", "::8.8.8.8",
        "64:ff9b::127.0.0.1", "64:ff9b::10.1.2.3", "64:ff9b::169.254.169.254", "64:ff9b:1::8.8.8.8", "100::1",
        "100:0:0:1::1", "2001::1", "2001:2::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::",
        "2002:a00:1::1", "2002:c0a8:101::", "3fff::1", "5f00::1", "fc00::1", "fd12:3456::1", "fe80::1",
        "febf::1", "fec0::1", "ff02::1", "4000::1", "1::1", "e000::1",
    ])
    func `RFC 6890: a special-purpose address is refused, also inside of another`(text: String) throws {
        let address = try #require(IPAddress(text))
        guard case .refused(let network) = AddressPolicy().judge(address) else {
            Issue.record("\(text) is permitted")
            return
        }
        #expect(network.block.contains(address))
        #expect(!network.purpose.isEmpty)
    }

    @Test(arguments: [
        "1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255",
        "128.0.0.1", "169.253.255.255", "172.15.255.255", "172.32.0.0", "192.0.1.1", "192.167.255.255",
        "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255", "2001:200::1", "2001:4860::8888",
        "2a00:1450::1", "2606:4700::1111", "64:ff9b::8.8.8.8", "2002:808:808::1", "2003::1", "3ffe:ffff::1",
    ])
    func `a public address is permitted, up to the very edge`(text: String) throws {
        #expect(AddressPolicy().judge(try #require(IPAddress(text))) == .permitted)
    }

    @Test(arguments: [
        ("127.0.0.1", true), ("127.0.0.2", false), ("10.1.2.3", true), ("10.2.0.0", false), ("fd00::1", true),
        ("fd01::1", false), ("::ffff:127.0.0.1", false), ("64:ff9b::10.1.0.1", false),
    ])
    func `what the operator names is permitted, and nothing beside it`(text: String, isPermitted: Bool) throws
    {
        let policy = AddressPolicy(
            allowed: ["127.0.0.1", "10.1.0.0/16", "fd00::/32"].compactMap { CIDR($0) })
        #expect((policy.judge(try #require(IPAddress(text))) == .permitted) == isPermitted)
    }

    @Test func `every line of the list is read`() {
        #expect(SpecialPurposeNetwork.all.count == 32)
    }

    @Test(arguments: [
        "10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/-1", "10.0.0.0/", "10.0.0.0/8/8", "x/8", "", "fd00::/129",
        "10.0.0.0/+8", "fd00::1/64",
    ])
    func `a block with bits behind its prefix, or none at all, is none`(text: String) {
        #expect(CIDR(text) == nil)
    }
}
