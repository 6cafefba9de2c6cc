//! Writable layers over images: mounted for real, changed, compared, committed, copied in and out.

use std::os::fd::AsFd;
use std::path::Path;

use droste_image::{
    Change, ChangeKind, Error, Image, MakeOptions, Overlay, PackOptions, Store, UnpackOptions, archive_name, changes,
    commit, pack, unpack,
};
use tempfile::TempDir;

use crate::support::*;

/// Mounts the overlay in a mount namespace of its own and runs a script in it.
fn inside(overlay: &Overlay, script: &str) -> String {
    let target = TempDir::new().unwrap();
    let (data, target) = (overlay.data(), target.path().display().to_string());
    let mount = format!("mount -t overlay droste -o '{data}' {target}; cd {target}; {script}");
    let output = std::process::Command::new("unshare")
        .args(["-m", "sh", "-euc", &mount])
        .current_dir(&overlay.layers_dir)
        .output()
        .unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn base(store: &Store) -> Image {
    let archive = tar(&[
        Item::directory("etc"),
        Item::file("etc/keep", "kept"),
        Item::file("etc/gone", "gone"),
        Item::file("etc/edit", "before"),
        Item::directory("tree"),
        Item::file("tree/a", "a"),
        Item::file("tree/b", "b"),
        Item::directory("other"),
        Item::file("other/x", "x"),
        Item::symlink("link", "etc"),
    ]);
    image_of(store, &archive).unwrap()
}

const CHANGE: &str = r"
rm etc/gone; echo after > etc/edit; chmod 600 etc/keep
rm -r tree; mkdir tree; echo new > tree/c
mkdir -p made/deep; echo hi > made/deep/file; ln made/deep/file made/hard; ln -s file made/deep/link
setcap cap_chown+ep made/deep/file
rm -r other
";

#[test]
fn an_image_can_be_mounted_and_written_over() {
    let (directory, store) = store();
    let image = base(&store);
    let overlay = store.prepare_root(Some(&image), directory.path().join("c")).unwrap();
    assert_eq!(inside(&overlay, "cat etc/keep link/edit; echo x > etc/edit"), "keptbefore");
    assert_eq!(inside(&overlay, "cat etc/edit"), "x\n");
    assert_eq!(std::fs::read_to_string(overlay.upper.join("etc/edit")).unwrap(), "x\n");
    assert_eq!(store.root_of(Some(&image), directory.path().join("c")).unwrap(), overlay);
    store.remove_root(directory.path().join("c")).unwrap();
    store.remove_root(directory.path().join("c")).unwrap();
    assert!(!overlay.upper.exists() && !overlay.work.exists());
}

#[test]
fn a_container_without_an_image_begins_empty() {
    let (directory, store) = store();
    let overlay = store.prepare_root(None, directory.path().join("c")).unwrap();
    assert_eq!(inside(&overlay, "ls -A; touch made; ls"), "made\n");
}

#[test]
fn a_commit_is_the_container_again() {
    let (directory, store) = store();
    let image = base(&store);
    let overlay = store.prepare_root(Some(&image), directory.path().join("c")).unwrap();
    inside(&overlay, CHANGE);
    let options = MakeOptions { comment: "said".into(), created_by: "sh".into(), ..MakeOptions::default() };
    let second = commit(&store, Some(&image), &overlay.upper, &options).unwrap();
    assert_eq!((second.layers().len(), second.parent()), (2, Some(image.id())));
    assert_eq!(second.layers()[0], image.layers()[0]);
    assert_eq!(second.config().history.last().unwrap().comment, "said");

    let list = "find . -mindepth 1 -printf '%P %y %m %l %n\n' | sort; find . -type f -exec sha256sum {} + | sort; getcap -r made";
    let copy = store.prepare_root(Some(&second), directory.path().join("d")).unwrap();
    // Link counts of merged directories are overlayfs's affair.
    let strip = |text: String| {
        let lines = text.lines().map(|line| {
            if line.contains(" d ") { line.trim_end_matches(|c: char| c.is_ascii_digit()) } else { line }.to_owned()
        });
        lines.collect::<Vec<_>>()
    };
    assert_eq!(strip(inside(&copy, list)), strip(inside(&overlay, list)));
    assert!(inside(&copy, "getcap made/hard").contains("cap_chown=ep"));

    let third = commit(&store, Some(&second), &copy.upper, &MakeOptions::default()).unwrap();
    assert_eq!(third.layers(), second.layers(), "nothing changed, so no layer is added");
    assert!(third.config().history.last().unwrap().empty_layer);
}

#[test]
fn changes_are_listed_as_docker_does() {
    let (directory, store) = store();
    let image = base(&store);
    let overlay = store.prepare_root(Some(&image), directory.path().join("c")).unwrap();
    inside(&overlay, CHANGE);
    let letter = |change: &Change| match change.kind {
        ChangeKind::Modified => format!("C {}", change.path.display()),
        ChangeKind::Added => format!("A {}", change.path.display()),
        ChangeKind::Deleted => format!("D {}", change.path.display()),
    };
    let found: Vec<String> = changes(&overlay.upper, &overlay.lower_paths()).unwrap().iter().map(letter).collect();
    assert_eq!(
        found,
        [
            "C /etc",
            "C /etc/edit",
            "D /etc/gone",
            "C /etc/keep",
            "A /made",
            "A /made/deep",
            "A /made/deep/file",
            "A /made/deep/link",
            "A /made/hard",
            "D /other",
            "C /tree",
            "A /tree/c",
            "D /tree/a",
            "D /tree/b",
        ]
    );
}

#[test]
fn opening_a_file_for_writing_is_no_change() {
    let (directory, store) = store();
    let image = base(&store);
    let overlay = store.prepare_root(Some(&image), directory.path().join("c")).unwrap();
    inside(&overlay, "exec 3<>etc/edit");
    assert!(overlay.upper.join("etc/edit").exists(), "copied up");
    assert_eq!(changes(&overlay.upper, &overlay.lower_paths()).unwrap(), []);
}

fn packed(root: &Path, path: &str, name: &str) -> Vec<u8> {
    let root = std::fs::File::open(root).unwrap();
    let mut out = Vec::new();
    pack(root.as_fd(), path.as_bytes(), &PackOptions { name: name.into(), whiteouts: false }, &mut out).unwrap();
    out
}

#[test]
fn copies_are_named_as_docker_names_them() {
    let work = TempDir::new().unwrap();
    shell(work.path(), "mkdir -p d/sub; echo x > d/sub/f; ln d/sub/f d/g; ln -s /d/sub l");
    for (path, expected) in [
        ("/d", vec!["d/", "d/g", "d/sub/", "d/sub/f"]),
        ("/d/", vec!["d/", "d/g", "d/sub/", "d/sub/f"]),
        ("/d/.", vec!["./", "./g", "./sub/", "./sub/f"]),
        ("/d/sub/f", vec!["f"]),
        ("/l", vec!["l"]),
        ("/l/f", vec!["f"]),
        ("/", vec!["/", "/d/", "/d/g", "/d/sub/", "/d/sub/f", "/l"]),
    ] {
        assert_eq!(names(&packed(work.path(), path, archive_name(path))), expected, "{path}");
    }
    assert_eq!(names(&packed(work.path(), "/", "")), ["d/", "d/g", "d/sub/", "d/sub/f", "l"], "export");
    assert_eq!(content(&packed(work.path(), "/l/f", "renamed"), "renamed"), b"x\n");
    let root = std::fs::File::open(work.path()).unwrap();
    let missing = pack(root.as_fd(), b"/nope", &PackOptions::default(), std::io::sink());
    assert!(missing.is_ok(), "a file that went away is left out; the caller looks first");
}

#[test]
fn copies_go_where_links_lead_inside_the_container() {
    let work = TempDir::new().unwrap();
    shell(work.path(), "mkdir -p outside root/data; ln -s /data root/abs; ln -s ../../outside root/up");
    let root = std::fs::File::open(work.path().join("root")).unwrap();
    let archive = tar(&[Item::file("file", "x"), Item::symlink("away", "/etc"), Item::file("away/file", "y")]);
    let options = UnpackOptions::default();
    unpack(root.as_fd(), b"/abs", gzip(&archive).as_slice(), &options).unwrap_err();
    assert_eq!(std::fs::read_to_string(work.path().join("root/data/file")).unwrap(), "x");
    // `/etc` is the container's, which has none; the machine's was not touched.
    assert!(!Path::new("/etc/file").exists());
    unpack(root.as_fd(), b"/up", tar(&[Item::file("f", "x")]).as_slice(), &options).unwrap_err();
    assert_eq!(std::fs::read_dir(work.path().join("outside")).unwrap().count(), 0);
}

#[test]
fn copies_keep_directories_and_owners_as_asked() {
    let work = TempDir::new().unwrap();
    shell(work.path(), "mkdir -p dir; echo old > file");
    let root = std::fs::File::open(work.path()).unwrap();
    let run = |items: &[Item], options: &UnpackOptions| unpack(root.as_fd(), b"/", tar(items).as_slice(), options);
    let keep = UnpackOptions { no_overwrite_dir_non_dir: true, ..UnpackOptions::default() };
    let error = run(&[Item::file("dir", "x")], &keep).unwrap_err();
    assert!(matches!(error, Error::WouldReplaceDirectory { .. }), "{error}");
    assert_eq!(error.to_string(), "cannot overwrite directory \"/dir\" with non-directory \"/\"");
    let error = run(&[Item::directory("file")], &keep).unwrap_err();
    assert_eq!(error.to_string(), "cannot overwrite non-directory \"/file\" with directory \"/\"");
    run(&[Item::file("file", "new"), Item::directory("dir")], &keep).unwrap();
    assert_eq!(std::fs::read_to_string(work.path().join("file")).unwrap(), "new");
    let owned = UnpackOptions { owner: Some((7, 8)), ..UnpackOptions::default() };
    run(&[Item::file("a/b", "x"), Item::symlink("s", "a")], &owned).unwrap();
    assert_eq!(shell(work.path(), "stat -c %u:%g a a/b s"), "7:8\n7:8\n7:8\n");
}
