// Five decades, each enabled by all before: 480 Hz.
module top (input CLK, output ICE_27);
    reg [3:0] d[0:4];
    reg [4:0] en;
    integer i;
    initial for (i = 0; i < 5; i = i + 1) d[i] = 0;
    always @* begin
        en[0] = 1;
        for (i = 1; i < 5; i = i + 1) en[i] = en[i-1] & (d[i-1] == 9);
    end
    always @(posedge CLK)
        for (i = 0; i < 5; i = i + 1)
            if (en[i]) d[i] <= d[i] == 9 ? 0 : d[i] + 1;
    assign ICE_27 = d[4][3];
endmodule
