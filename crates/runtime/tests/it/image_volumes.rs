//! Paths that an image declares as volumes.

use crate::world::{World, tools};
use nauplius_cri::v1::{ImageSpec, Mount};

const IMAGE: &str = "test.local/volumes:1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn declared_volumes_are_each_containers_own() {
    let world = World::new().await;
    let mut image = tools();
    image.add_directory("/seed", 0o1777).unwrap();
    image.add_bytes("/seed/deep/file", &b"from the image\n"[..], 0o640).unwrap();
    image.add_bytes("/covered/file", &b"not to be seen\n"[..], 0o644).unwrap();
    image.config.volumes = ["/seed", "/fresh/new", "/covered"].map(str::to_owned).into();
    image.store(&world.store, &[IMAGE.parse().unwrap()]).await.unwrap();
    let data = world.root.join("data");
    std::fs::create_dir(&data).unwrap();
    let script = "cat /seed/deep/file; ls -ld /seed /seed/deep/file; touch /seed/mine /fresh/new/mine && ls /seed /fresh/new; \
                  ls /covered | head -n 1; touch /covered/out /outside";
    for _ in 0..2 {
        let (_, text) = world
            .script(script, |config| {
                config.image = Some(ImageSpec { image: IMAGE.to_owned(), ..Default::default() });
                let linux = config.linux.get_or_insert_default();
                linux.security_context.get_or_insert_default().readonly_rootfs = true;
                config.mounts = vec![Mount {
                    container_path: "/covered/".to_owned(),
                    host_path: data.display().to_string(),
                    ..Default::default()
                }];
            })
            .await;
        assert!(text.starts_with("from the image\n"), "{text}");
        assert!(text.contains("drwxrwxrwt") && text.contains("-rw-r-----"), "{text}");
        assert!(text.contains("/fresh/new:\nmine\n"), "{text}");
        assert!(text.contains("/seed:\ndeep\nmine\n"), "{text}");
        assert!(
            !text.contains("not to be seen") && text.contains("'/outside': Read-only file system"),
            "{text}"
        );
        assert!(data.join("out").exists());
    }
    let containers = std::fs::read_dir(world.root.join("state/containers")).unwrap();
    assert_eq!(containers.count(), 0, "what containers had is left");
    world.finish().await;
}
