//! Archives made to do harm: each gets a clear error, nothing outside is touched, nothing is left behind.

use std::os::fd::AsFd;

use droste_image::{Error, Limits, LoadOptions, MakeOptions, UnpackOptions, import, load, unpack};
use tempfile::TempDir;

use crate::support::*;

fn assert_refused(name: &str, items: &[Item], fragment: &str) {
    let (directory, store) = store();
    std::fs::write(directory.path().join("outside"), "safe").unwrap();
    let error = image_of(&store, &tar(items)).expect_err(name);
    assert!(error.to_string().contains(fragment), "{name}: {error}");
    assert_eq!(leftovers(directory.path()), Vec::<std::path::PathBuf>::new(), "{name}");
    assert!(store.images().is_empty() && store.layers().len() == 1, "{name}");
    assert_eq!(std::fs::read_to_string(directory.path().join("outside")).unwrap(), "safe", "{name}");
}

#[test]
fn entries_that_lead_outside_are_refused() {
    let out = "leads out of the directory";
    assert_refused("dots", &[Item::file("../../../outside", "x")], out);
    assert_refused("dots inside", &[Item::file("a/../../b", "x")], out);
    assert_refused("dots after a slash", &[Item::file("/../outside", "x")], out);
    assert_refused("symlink up", &[Item::symlink("l", "../../outside")], "symbolic link that leads out");
    assert_refused("deep symlink up", &[Item::symlink("a/b/l", "../../../x")], "symbolic link that leads out");
    assert_refused("hard link up", &[Item::hard_link("l", "../../../outside")], "hard link to something outside");
    assert_refused("hard link to the root", &[Item::hard_link("l", "/")], "hard link to the root");
    assert_refused("whiteout of ..", &[Item::file(".wh...", "")], "whiteout without a name");
    assert_refused("whiteout of nothing", &[Item::file(".wh.", "")], "whiteout without a name");
    assert_refused("the root as a file", &[Item::file("./", "x")], "root can only be a directory");
}

#[test]
fn links_are_followed_within_the_layer_only() {
    let (directory, store) = store();
    let target = directory.path().join("target");
    std::fs::create_dir(&target).unwrap();
    let inside = target.to_str().unwrap();
    // An absolute link is legal; written through, it means a path inside the layer.
    let archive = tar(&[
        Item::symlink("escape", inside),
        Item::directory(&inside[1..]),
        Item::file("escape/file", "x"),
        Item::hard_link("linked", "escape/file"),
    ]);
    let image = image_of(&store, &archive).unwrap();
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0, "written outside of the layer");
    let layer = top_layer(&store, &image);
    assert_eq!(std::fs::read_to_string(layer.join("linked")).unwrap(), "x");
    assert_eq!(std::fs::read_to_string(layer.join(&inside[1..]).join("file")).unwrap(), "x");
    // A link to nowhere can't be written through.
    let dangling = [Item::symlink("l", "/nowhere"), Item::file("l/file", "x")];
    assert_refused("through a dangling link", &dangling, "extracting \"l\"");
}

#[test]
fn absolute_names_stay_inside() {
    let (_directory, store) = store();
    let image = image_of(&store, &tar(&[Item::file("/etc/droste-hostile", "x")])).unwrap();
    assert!(top_layer(&store, &image).join("etc/droste-hostile").exists());
    assert!(!std::path::Path::new("/etc/droste-hostile").exists());
}

#[test]
fn broken_headers_are_refused() {
    let (_directory, store) = store();
    let good = tar(&[Item::file("a", "content")]);
    let mut wrong_sum = good.clone();
    wrong_sum[0] = b'b';
    let mut wrong_size = Item::file("a", "");
    wrong_size.stated = Some(1 << 30);
    let huge_pax = Item { stated: Some(64 << 20), ..Item::pax(&[]) };
    for (name, archive, fragment) in [
        ("checksum", wrong_sum, "wrong checksum"),
        ("no tar at all", b"<html>not found</html>".repeat(100), "invalid"),
        ("cut in the content", good[..600].to_vec(), "cut short"),
        ("cut in the header", good[..300].to_vec(), "cut short"),
        ("a size without content", tar(&[wrong_size]), "cut short"),
        ("an endless PAX header", tar(&[huge_pax]), "longer than 1 MiB"),
        ("a broken PAX record", tar(&[Item { content: b"9999 a=b\n".to_vec(), ..Item::pax(&[]) }]), "invalid PAX"),
        ("a name with NUL", tar(&[Item::pax(&[("path", b"a\0b")]), Item::file("a", "")]), "invalid name"),
        (
            "a negative sparse run",
            tar(&[
                Item::pax(&[("GNU.sparse.map", b"5,9,1,1"), ("GNU.sparse.size", b"20")]),
                Item::file("a", "0123456789"),
            ]),
            "sparse map",
        ),
        ("gzip cut short", gzip(&good)[..40].to_vec(), "cut short"),
    ] {
        let error = image_of(&store, &archive).expect_err(name);
        assert!(error.to_string().contains(fragment), "{name}: {error}");
        assert!(error.is_clients_fault(), "{name}: {error:?}");
    }
}

#[test]
fn bombs_stop_at_the_limit() {
    let (directory, store) = store();
    let limits = Limits { bytes: 1 << 20, entries: 100 };
    let make = |archive: &[u8]| import(&store, archive, None, limits, &MakeOptions::default());
    let zeros = gzip(&tar(&[Item::bytes("zeros", &vec![0; 8 << 20])]));
    assert!(zeros.len() < 100_000);
    let many: Vec<Item> = (0..200).map(|number| Item::directory(&format!("d{number}"))).collect();
    let sparse =
        [Item::pax(&[("GNU.sparse.map", b"0,1"), ("GNU.sparse.size", b"9000000000000")]), Item::file("hole", "x")];
    // Content of an entry that is no file, and bytes after the end, count as well.
    let mut trailing = tar(&[Item::file("a", "x")]);
    trailing.resize(64 << 20, 0);
    for (name, archive) in
        [("zeros", zeros), ("many", tar(&many)), ("sparse", tar(&sparse)), ("trailing", gzip(&trailing))]
    {
        let error = make(&archive).expect_err(name);
        assert!(matches!(error, Error::TooLarge { .. }), "{name}: {error}");
        assert!(leftovers(directory.path()).is_empty(), "{name}");
    }
}

#[test]
fn devices_are_refused_where_the_caller_says_so() {
    let directory = TempDir::new().unwrap();
    let root = std::fs::File::open(directory.path()).unwrap();
    let archive = tar(&[Item::device("null", 1, 3)]);
    let options = UnpackOptions { refuse_devices: true, ..UnpackOptions::default() };
    let error = unpack(root.as_fd(), b"/", archive.as_slice(), &options).unwrap_err();
    assert!(error.to_string().contains("device nodes are not allowed"), "{error}");
    unpack(root.as_fd(), b"/", archive.as_slice(), &UnpackOptions::default()).unwrap();
    assert!(directory.path().join("null").exists());
}

#[test]
fn image_archives_with_tricks_are_refused() {
    let layer = tar(&[Item::file("a", "x")]);
    let manifest =
        |config: &str, layer: &str| format!(r#"[{{"Config":"{config}","RepoTags":["t:1"],"Layers":["{layer}"]}}]"#);
    let config = |diff_id: &str| {
        format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
        )
    };
    let right = config(&droste_image::digest_of(&layer).to_string());
    let wrong = config(&droste_image::digest_of(b"other").to_string());
    let good = || {
        vec![
            Item::bytes("l/layer.tar", &layer),
            Item::file("c.json", &right),
            Item::file("manifest.json", &manifest("c.json", "l/layer.tar")),
        ]
    };
    let cases: Vec<(&str, Vec<Item>, &str)> = vec![
        ("no manifest", vec![Item::bytes("l/layer.tar", &layer)], "neither manifest.json"),
        ("an absolute name", vec![Item::file("/manifest.json", "[]")], "absolute name"),
        ("a name that climbs", vec![Item::file("../manifest.json", "[]")], "leads out"),
        ("a device", vec![Item::device("manifest.json", 1, 3)], "a device in an image archive"),
        (
            "a missing layer",
            vec![Item::file("c.json", &right), Item::file("manifest.json", &manifest("c.json", "l/layer.tar"))],
            "is missing",
        ),
        (
            "a missing configuration",
            vec![Item::bytes("l/layer.tar", &layer), Item::file("manifest.json", &manifest("c.json", "l/layer.tar"))],
            "is missing",
        ),
        (
            "a configuration outside",
            vec![Item::file("manifest.json", &manifest("../../etc/passwd", "l/layer.tar"))],
            "is missing",
        ),
        (
            "a wrong diff id",
            vec![
                Item::bytes("l/layer.tar", &layer),
                Item::file("c.json", &wrong),
                Item::file("manifest.json", &manifest("c.json", "l/layer.tar")),
            ],
            "digest mismatch",
        ),
        (
            "a blob that is not its name",
            vec![Item::file(&format!("blobs/sha256/{}", "a".repeat(64)), "{}")],
            "digest mismatch",
        ),
        (
            "links in a circle",
            vec![Item::symlink("manifest.json", "b"), Item::symlink("b", "manifest.json")],
            "neither manifest.json",
        ),
        ("broken JSON", vec![Item::file("manifest.json", "[{")], "invalid manifest.json"),
        (
            "a layer that leads out",
            vec![
                Item::bytes("l/layer.tar", &tar(&[Item::file("../x", "")])),
                Item::file("c.json", &right),
                Item::file("manifest.json", &manifest("c.json", "l/layer.tar")),
            ],
            "leads out",
        ),
    ];
    for (name, items, fragment) in cases {
        let (directory, store) = store();
        let error = load(&store, tar(&items).as_slice(), &LoadOptions::default(), &silent).expect_err(name);
        assert!(error.to_string().contains(fragment), "{name}: {error}");
        assert!(store.images().is_empty() && leftovers(directory.path()).is_empty(), "{name}");
    }
    let (directory, store) = store();
    let whole = tar(&good());
    for end in (100..whole.len() - 1600).step_by(512) {
        load(&store, &whole[..end], &LoadOptions::default(), &silent).expect_err("a cut archive");
        assert!(store.images().is_empty() && leftovers(directory.path()).is_empty(), "cut at {end}");
    }
    assert_eq!(load(&store, whole.as_slice(), &LoadOptions::default(), &silent).unwrap().len(), 1);
}
